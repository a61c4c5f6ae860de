"""What a base tells a planner of how tasks are verified there."""

from collections.abc import Collection, Sequence
from pathlib import Path

from codeframe.finders import find_verification
from codeframe.project import PROJECT_FILE, ProjectFile, ProjectFileError, read_project
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.tools import text_file
from services.workers.tools.place import resolve
from services.workers.tools.tool import ToolError


def told_verifications(root: Path, paths: Collection[str], roles: Sequence[str]) -> dict[str, str]:
    """The command for each role, by codeframe.toml or as it is found in the tree; empty where there is none.

    Raises AttemptFailed for a codeframe.toml that cannot be used.
    """

    def read(path: str) -> str | None:
        try:
            return text_file.read(resolve(root, path))
        except ToolError:
            return None

    text = read(PROJECT_FILE) if PROJECT_FILE in paths else None
    try:
        project = read_project(text) if text is not None else ProjectFile()
    except ProjectFileError as error:
        raise AttemptFailed(Outcome.SETUP_FAILED, str(error)) from None
    return {
        role: project.of(role).verification or find_verification(paths, read, role) or "" for role in roles
    }
