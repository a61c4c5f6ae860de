"""How a project says it is set up, verified and worked on: codeframe.toml.

Pure: the caller reads the file. docs/codeframe-toml.md says what each key means, and
codeframe/schema/codeframe.toml.schema.json what it may be.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath

from codeframe.durations import parse_duration
from codeframe.plan import UNVERIFIED
from codeframe.tomlfile import Table, TomlError, read_toml

PROJECT_FILE = "codeframe.toml"
SCHEMA = Path(__file__).parent / "schema" / "codeframe.toml.schema.json"

_COMMAND_LENGTH = 2000  # characters
_MODEL_LENGTH = 200
_PATH_LENGTH = 500
_PATHS_LIMIT = 20
_GLOBS_LIMIT = 100
_ROLE_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")
_TIMEOUTS = (timedelta(milliseconds=100), timedelta(days=1))


class ProjectFileError(Exception):
    """codeframe.toml cannot be used. Each line of the message is `file:line:column: key: what`."""


@dataclass(frozen=True, slots=True)
class RoleOverride:
    """What codeframe.toml says for one role, in place of what it says for all; what it leaves out is empty.

    `allow` are globs of what the role may write, in place of its own; `deny` what it must not,
    besides its own.
    """

    model: str = ""
    setup: str = ""
    setup_paths: tuple[str, ...] = ()
    verification: str = ""
    report: str = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """What codeframe.toml says; what it leaves out is empty or None.

    `setup` and `verification` are shell commands. `setup_paths` and `report` are relative to
    the repository's root: existing folders that setup would make (such as `.venv`), and the
    test report that the verification writes. `timeout` is for one run of the verification.
    `model` is for tasks that name none. `roles` are overrides by the role's name.
    """

    setup: str = ""
    setup_paths: tuple[str, ...] = ()
    verification: str = ""
    report: str = ""
    timeout: timedelta | None = None
    model: str = ""
    roles: Mapping[str, RoleOverride] = field(default_factory=dict)

    def of(self, role: str) -> "ProjectFile":
        """The file as it reads for one role: a command of the role's own brings its paths or report along."""
        own = self.roles.get(role, RoleOverride())
        sets_up, verifies = bool(own.setup or own.setup_paths), bool(own.verification)
        return ProjectFile(
            setup=own.setup if sets_up else self.setup,
            setup_paths=own.setup_paths if sets_up else self.setup_paths,
            verification=own.verification or self.verification,
            report=own.report if verifies or own.report else self.report,
            timeout=self.timeout,
            model=own.model or self.model,
        )


def read_project(text: str, path: str = PROJECT_FILE) -> ProjectFile:
    """Read a codeframe.toml; `path` is how errors name it.

    Raises ProjectFileError, which names every fault found by line, column and key, up to twenty:
    what is not TOML, a key that is not known, a value of the wrong type or out of bounds.
    """
    try:
        top = read_toml(text, path)
        setup, verification, roles = top.table("setup"), top.table("verification"), top.table("roles")
        project = ProjectFile(
            setup=_command(setup),
            setup_paths=_paths(setup, "paths", _PATHS_LIMIT),
            verification=_verification(verification),
            report=_report(verification),
            timeout=_timeout(verification),
            model=top.text("model", longest=_MODEL_LENGTH).strip(),
            roles={name: _role(roles, name) for name in roles.keys},
        )
        top.end()
    except TomlError as error:
        raise ProjectFileError(str(error)) from None
    return project


def _role(roles: Table, name: str) -> RoleOverride:
    table = roles.table(name)
    if not _ROLE_NAME.fullmatch(name):
        roles.problem(name, "a role's name is small letters, digits and hyphens, 50 at most, a letter first")
    setup, verification = table.table("setup"), table.table("verification")
    return RoleOverride(
        model=table.text("model", longest=_MODEL_LENGTH).strip(),
        setup=_command(setup),
        setup_paths=_paths(setup, "paths", _PATHS_LIMIT),
        verification=_verification(verification),
        report=_report(verification),
        allow=_paths(table, "allow", _GLOBS_LIMIT),
        deny=_paths(table, "deny", _GLOBS_LIMIT),
    )


def _command(table: Table) -> str:
    return table.text("command", longest=_COMMAND_LENGTH).strip()


def _verification(table: Table) -> str:
    command = _command(table)
    if command == UNVERIFIED:
        table.problem("command", f"must be a command; a task of a plan may say verification: {UNVERIFIED}")
    return command


def _report(table: Table) -> str:
    path = table.text("report", longest=_PATH_LENGTH)
    return _inside(table, "report", path) if path else ""


def _paths(table: Table, key: str, most: int) -> tuple[str, ...]:
    """Paths or globs in the repository, relative to its root."""
    return tuple(_inside(table, key, path, at) for at, path in enumerate(table.texts(key, most=most)))


def _inside(table: Table, key: str, value: str, index: int | None = None) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts:
        table.problem(key, f"must lie inside the repository, relative to its root: {value}", index)
    if len(value) > _PATH_LENGTH:
        table.problem(key, f"must be at most {_PATH_LENGTH} characters", index)
    return str(path)


def _timeout(table: Table) -> timedelta | None:
    value = table.value("timeout")
    if value is None:
        return None
    duration = _duration(value)
    if duration is None or not _TIMEOUTS[0] <= duration <= _TIMEOUTS[1]:
        table.problem(
            "timeout", 'must be seconds, or a string such as "90s", "5m" or "1h", from 0.1 s to a day'
        )
    return duration


def _duration(value: object) -> timedelta | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return timedelta(seconds=value) if 0 < value <= _TIMEOUTS[1].total_seconds() else None
    return parse_duration(value) if isinstance(value, str) else None
