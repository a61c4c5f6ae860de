"""What a base tells of how tasks of each role are checked there."""

from collections.abc import Collection, Sequence
from pathlib import Path

from codeframe.finders import find_report, find_verification
from codeframe.project import PROJECT_FILE, ProjectFile, ProjectFileError, read_project
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.tools import text_file
from services.workers.tools.place import resolve
from services.workers.tools.tool import ToolError
from services.workers.work import Checks


def told_checks(root: Path, paths: Collection[str], roles: Sequence[str]) -> dict[str, Checks]:
    """The checks of each role, by codeframe.toml or as they are found in a checkout of the base.

    Where there is none, the verification is empty. Raises AttemptFailed for a codeframe.toml that cannot
    be used.
    """

    def read(path: str) -> str | None:
        try:
            return text_file.read(resolve(root, path))
        except ToolError:
            return None

    try:
        named_here = PROJECT_FILE in paths
        project = read_project(text_file.read(resolve(root, PROJECT_FILE))) if named_here else ProjectFile()
    except (ToolError, ProjectFileError) as error:
        raise AttemptFailed(Outcome.SETUP_FAILED, str(error)) from None
    told = {}
    for role in roles:
        named = project.of(role)
        verification = named.verification or find_verification(paths, read, role) or ""
        report = named.report or find_report(paths, read, verification)
        told[role] = Checks(verification, report, named.setup, named.setup_paths)
    return told
