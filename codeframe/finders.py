"""The verification that a tree tells, where nobody names one. Pure: the caller reads files."""

import json
import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping

_FOREIGN = {"node_modules", "site-packages", "venv", "vendor", "third_party", "dist", "build"}
_PYTEST_OWN = {"pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"}
_PYTEST_SHARED = {"pyproject.toml", "setup.cfg", "tox.ini"}
_PYTEST_CONFIG = re.compile(r"^\s*\[(?:tool\.pytest(?:\.ini_options)?|tool:pytest|pytest)\]", re.MULTILINE)
_PYTHON_TEST = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")  # as make looks for them
_MAKE_TEST = "make test"
_MAKE_TARGET = re.compile(r"^test[ \t]*:(?!=)", re.MULTILINE)
_JUNIT_PATH = re.compile(r"junit[^\n]*?[=: \t]\"?(?P<path>(?!/)[\w./-]+\.xml)\b", re.IGNORECASE)
_GO_USE = re.compile(r"^use[ \t]*(?:\((?P<many>[^)]*)\)|(?P<one>\S+))", re.MULTILINE)
_NPM_PLACEHOLDER = "no test specified"


def find_verification(
    paths: Collection[str], read: Callable[[str], str | None], role: str = ""
) -> str | None:
    """The command that verifies a tree which names none, or None where none is found.

    pytest where the tree has Python tests or a pytest configuration; else `go test` for a go.work (all its
    modules) or a go.mod, `cargo test` for a Cargo.toml and `npm test` for a package.json with a test script,
    of the folder nearest to the root; else `make test` where the Makefile says where its JUnit report goes.
    For the role frontend, npm comes first. `paths` are the tree's files, relative to its root, with slashes;
    `read` returns a file's text, None where it is not text.
    """
    own = sorted((path for path in paths if _is_own(path)), key=lambda path: (path.count("/"), path))
    finders = [_find_pytest, _find_by_manifest, _find_make]
    if role == "frontend":
        finders.insert(0, _find_npm)
    return next((command for find in finders if (command := find(own, read))), None)


def find_report(paths: Collection[str], read: Callable[[str], str | None], command: str) -> str:
    """Where a command writes a JUnit report by itself, as far as the tree tells; empty where it does not.

    Only `make test` is looked into; other runners are asked for a report.
    """
    if command != _MAKE_TEST:
        return ""
    texts = (read(path) or "" for path in _MAKEFILES if path in paths)
    return next((report for text in texts if (report := _junit_path(text))), "")


def go_modules(go_work: str) -> tuple[str, ...]:
    """The folders of the modules that a go.work uses, relative to its own, less those outside it."""
    plain = re.sub(r"//[^\n]*", "", go_work)
    used = [word for found in _GO_USE.finditer(plain) for word in (found["many"] or found["one"]).split()]
    folders = (posixpath.normpath(word.strip('"`')) for word in used)
    return tuple(dict.fromkeys(each for each in folders if not each.startswith(("..", "/"))))


def go_packages(folders: Collection[str]) -> str:
    """All packages of modules, as `go test` takes them."""
    return shlex.join("./..." if folder == "." else f"./{folder}/..." for folder in folders)


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


def _find_by_manifest(paths: list[str], read: Callable[[str], str | None]) -> str | None:
    """The runner of the manifest nearest to the root."""
    workspaces = {
        path: modules
        for path in paths
        if path.rpartition("/")[2] == "go.work" and (modules := go_modules(read(path) or ""))
    }
    found = (command for path in paths if (command := _of_manifest(path, read, workspaces)))
    return next(found, None)


def _of_manifest(
    path: str, read: Callable[[str], str | None], workspaces: Mapping[str, tuple[str, ...]]
) -> str | None:
    folder, _, name = path.rpartition("/")
    match name:
        case "go.work" if path in workspaces:
            test = f"go test {go_packages(workspaces[path])}"
            return f"cd {shlex.quote(folder)} && {test}" if folder else test
        case "go.mod" if posixpath.join(folder, "go.work") not in workspaces:
            return f"cd {shlex.quote(folder)} && go test ./..." if folder else "go test ./..."
        case "Cargo.toml":
            whole = " --workspace" if re.search(r"^\[workspace\]", read(path) or "", re.MULTILINE) else ""
            return f"cargo test{whole}" + (f" --manifest-path {shlex.quote(path)}" if folder else "")
        case "package.json":
            return _find_npm([path], read)
    return None


def _find_npm(paths: list[str], read: Callable[[str], str | None]) -> str | None:
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name == "package.json" and _has_test_script(read(path) or ""):
            return f"npm test --prefix {shlex.quote(folder)}" if folder else "npm test"
    return None


def _find_make(paths: list[str], read: Callable[[str], str | None]) -> str | None:
    for path in _MAKEFILES:
        text = (read(path) or "") if path in paths else ""
        if _MAKE_TARGET.search(text) and (_junit_path(text) or "CODEFRAME_REPORT" in text):
            return _MAKE_TEST
    return None


def _junit_path(makefile: str) -> str:
    """The path of a JUnit report that a Makefile names, where no variable is in it."""
    found = _JUNIT_PATH.search(makefile)
    return found["path"].removeprefix("./") if found else ""


def _has_test_script(text: str) -> bool:
    try:
        package = json.loads(text)
    except (ValueError, RecursionError):
        return False
    scripts = package.get("scripts") if isinstance(package, dict) else None
    test = scripts.get("test") if isinstance(scripts, dict) else None
    return isinstance(test, str) and bool(test.strip()) and _NPM_PLACEHOLDER not in test
