"""How a project is set up and verified: codeframe.toml, and what its tree tells.

Pure: the caller reads files.
"""

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath

PROJECT_FILE = "codeframe.toml"

_PATHS_LIMIT = 100
_TIMEOUT_LIMIT = timedelta(days=1)
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}
_FOREIGN = {"node_modules", "site-packages", "venv", "vendor", "third_party", "dist", "build"}
_PYTEST_OWN = {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"}
_PYTEST_SHARED = {"pyproject.toml", "setup.cfg", "tox.ini"}
_PYTEST_CONFIG = re.compile(r"^\s*\[(?:tool\.pytest(?:\.ini_options)?|tool:pytest|pytest)\]", re.MULTILINE)
_PYTHON_TEST = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
_NPM_PLACEHOLDER = "no test specified"


class ProjectFileError(Exception):
    """codeframe.toml cannot be used. The message names the file and the key or the line."""


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """What codeframe.toml says; what it leaves out is empty or None.

    `setup` and `verification` are shell commands. `setup_paths` and `report` are relative to
    the repository's root: existing folders that setup would make (such as `.venv`), and the
    test report that the verification writes. `timeout` is for one run of the verification.
    """

    setup: str = ""
    setup_paths: tuple[str, ...] = ()
    verification: str = ""
    report: str = ""
    timeout: timedelta | None = None


def read_project(text: str, path: str = PROJECT_FILE) -> ProjectFile:
    """Read a codeframe.toml; `path` is how errors name it.

    Raises ProjectFileError where it is not TOML, has a key that is not known, or a value of
    the wrong type or out of bounds.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileError(f"{path}: {error}") from None
    top = _Table(path, "", document, {"setup", "verification"})
    setup = top.table("setup", {"command", "paths"})
    verification = top.table("verification", {"command", "report", "timeout"})
    return ProjectFile(
        setup=setup.command("command"),
        setup_paths=setup.paths("paths"),
        verification=verification.command("command"),
        report=verification.path("report"),
        timeout=verification.duration("timeout"),
    )


class _Table:
    """One table of the file. Every reader names file and key where a value is wrong."""

    def __init__(self, file: str, name: str, values: Mapping[str, object], known: Collection[str]) -> None:
        self._file = file
        self._name = name
        self._values = values
        for key in values:
            if key not in known:
                raise self._error(key, f"unknown key; known here: {', '.join(sorted(known))}")

    def _error(self, key: str, what: str) -> ProjectFileError:
        return ProjectFileError(f"{self._file}: {self._name}{key}: {what}")

    def table(self, key: str, known: Collection[str]) -> "_Table":
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise self._error(key, f"must be a table: [{key}]")
        return _Table(self._file, f"{self._name}{key}.", value, known)

    def command(self, key: str) -> str:
        value = self._string(key)
        if len(value) > 2000:
            raise self._error(key, "must be at most 2000 characters; put the rest into a script")
        return value.strip()

    def path(self, key: str) -> str:
        value = self._string(key)
        return self._inside(key, value) if value else ""

    def paths(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or len(value) > _PATHS_LIMIT:
            raise self._error(key, f"must be a list of at most {_PATHS_LIMIT} paths")
        return tuple(self._inside(f"{key}[{at}]", item) for at, item in enumerate(value))

    def duration(self, key: str) -> timedelta | None:
        value = self._values.get(key)
        if value is None:
            return None
        duration = _duration(value)
        if duration is None or not timedelta(milliseconds=100) <= duration <= _TIMEOUT_LIMIT:
            raise self._error(
                key, 'must be seconds, or a string such as "90s", "5m" or "1h", from 0.1 s to a day'
            )
        return duration

    def _string(self, key: str) -> str:
        value = self._values.get(key, "")
        if not isinstance(value, str) or "\0" in value:
            raise self._error(key, "must be a string")
        return value

    def _inside(self, key: str, value: object) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise self._error(key, "must be a path")
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise self._error(key, f"must lie inside the repository, relative to its root: {value}")
        return str(path)


def _duration(value: object) -> timedelta | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return timedelta(seconds=value) if 0 < value <= _TIMEOUT_LIMIT.total_seconds() else None
    return parse_duration(value) if isinstance(value, str) else None


def parse_duration(text: str) -> timedelta | None:
    """A duration such as "90s", "1.5h", "1h30m" or "500ms"; None where it is not one."""
    if not re.fullmatch(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h))+", text):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())


def find_verification(
    paths: Collection[str], read: Callable[[str], str | None], role: str = ""
) -> str | None:
    """The command that verifies a tree which names none, or None where none is found.

    pytest where the tree has Python tests or a pytest configuration, `npm test` where a
    package.json has a test script; in a sub-folder, of that folder. A tree with both is
    verified by pytest, for the role frontend by npm. `paths` are the tree's files, relative
    to its root, with slashes; `read` returns a file's text, None where it is not text.
    """
    own = sorted((path for path in paths if _is_own(path)), key=lambda path: (path.count("/"), path))
    finders = [_find_npm, _find_pytest] if role == "frontend" else [_find_pytest, _find_npm]
    return next((command for find in finders if (command := find(own, read))), None)


def _is_own(path: str) -> bool:
    *folders, _ = path.split("/")
    return not any(folder in _FOREIGN or folder.startswith(".") for folder in folders)


def _find_pytest(paths: list[str], read: Callable[[str], str | None]) -> str | None:
    folder = next(_configured_for_pytest(paths, read), None)
    if folder is not None:
        return f"python -m pytest {shlex.quote(folder)}" if folder else "python -m pytest"
    if any(_PYTHON_TEST.fullmatch(path.rpartition("/")[2]) for path in paths):
        return "python -m pytest"
    return None


def _configured_for_pytest(paths: list[str], read: Callable[[str], str | None]) -> Iterator[str]:
    """Folders with a configuration of pytest, shallowest first."""
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name in _PYTEST_OWN or (name in _PYTEST_SHARED and _PYTEST_CONFIG.search(read(path) or "")):
            yield folder


def _find_npm(paths: list[str], read: Callable[[str], str | None]) -> str | None:
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == "package.json" and _has_test_script(read(path) or ""):
            return f"npm test --prefix {shlex.quote(folder)}" if folder else "npm test"
    return None


def _has_test_script(text: str) -> bool:
    try:
        package = json.loads(text)
    except (ValueError, RecursionError):
        return False
    scripts = package.get("scripts") if isinstance(package, dict) else None
    test = scripts.get("test") if isinstance(scripts, dict) else None
    return isinstance(test, str) and bool(test.strip()) and _NPM_PLACEHOLDER not in test
