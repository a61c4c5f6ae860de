"""The verification that a tree tells, where nobody names one. Pure: the caller reads files."""

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator

_FOREIGN = {"node_modules", "site-packages", "venv", "vendor", "third_party", "dist", "build"}
_PYTEST_OWN = {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"}
_PYTEST_SHARED = {"pyproject.toml", "setup.cfg", "tox.ini"}
_PYTEST_CONFIG = re.compile(r"^\s*\[(?:tool\.pytest(?:\.ini_options)?|tool:pytest|pytest)\]", re.MULTILINE)
_PYTHON_TEST = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
_NPM_PLACEHOLDER = "no test specified"


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
