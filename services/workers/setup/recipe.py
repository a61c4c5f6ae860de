"""What a checkout's own files say about its setup. Reads the checkout, runs nothing.

Python: one environment for the whole checkout, from `uv.lock` (`uv sync`), else from requirements files
and the `pyproject.toml` or `setup.py` of the root and of the folders in it, with their test extras; and
pytest, where the project asks for none. Node: `npm ci` with a lock file, else `npm install`, in each such
folder whose `package.json` has dependencies. Go and Rust, where the verification may call them: the modules
or crates of each `go.mod` and `Cargo.toml` are fetched, and Go's packages compiled, once. What needs nothing
installs nothing.
"""

import hashlib
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeframe.finders import go_modules, go_packages
from services.workers.setup.errors import SetupFailed

REQUIREMENTS = re.compile(
    r"requirements(?:[-_.](?:dev|test|tests|testing|ci))?\.txt|(?:dev|test|tests)[-_]requirements\.txt"
    r"|requirements/(?:base|main|requirements|dev|test|tests|testing)\.txt"
)
LOCKS = re.compile(
    r"requirements.*\.(?:txt|in|lock)|requirements/.*\.(?:txt|in|lock)|.*[-_]requirements\.txt|constraints.*\.txt"
    r"|pyproject\.toml|setup\.(?:py|cfg)|uv\.(?:lock|toml)|poetry\.lock|pdm\.lock|Pipfile(?:\.lock)?|\.python-version"
    r"|go\.(?:mod|sum|work|work\.sum)|rust-toolchain(?:\.toml)?|Cargo\.(?:toml|lock)"
    r"|package(?:-lock)?\.json|npm-shrinkwrap\.json|\.npmrc|yarn\.lock|pnpm-(?:lock|workspace)\.yaml|\.nvmrc"
)
TEST_EXTRAS = ("test", "tests", "testing", "dev")
ASKS_PYTHON = re.compile(r"\b(?:python[\d.]*|pytest|py\.test)\b")
ASKS_GO, ASKS_CARGO = re.compile(r"\b(?:go|make)\b"), re.compile(r"\b(?:cargo|make)\b")
ASKS_PIP = re.compile(r"\bpip3?\b")
GO_COMPILE = "go test -count=1 -run '^$' {} >/dev/null 2>&1"
MOST_FOLDERS = 500
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """A shell line, and the folder of the tree (relative) that it runs in."""

    line: str
    folder: str = "."


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a checkout is set up: in a Python environment or not, the steps, what their digest is made of."""

    python: bool = False
    steps: tuple[Step, ...] = ()
    ingredients: dict[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not self.python and not self.steps

    def digest(self, identity: str) -> str:
        """Names what these steps make of these files with the tools of that identity."""
        steps = [(step.line, step.folder) for step in self.steps]
        text = json.dumps([2, identity, self.python, steps, sorted(self.ingredients.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def recipe_for_command(checkout: Path, command: str) -> Recipe:
    """The recipe that is one command; its digest covers the lock files and the files it names."""
    named = [word for word in _words(command) if (checkout / word).is_file()]
    ingredients = _ingredients(checkout, [*_locks(checkout), *named])
    wants_venv = bool(ASKS_PIP.search(command)) and "venv" not in command
    return Recipe(wants_venv, (Step(command),), ingredients)


def find_recipe(checkout: Path, verification: str = "", pip: str = "python -m pip") -> Recipe:
    """The recipe that the checkout's files tell, for a verification, with `pip` installing Python packages.

    Raises SetupFailed where a file cannot be understood.
    """
    files = _locks(checkout)
    locked = [os.path.dirname(file) or "." for file in files if os.path.basename(file) == "uv.lock"]
    if locked:
        pip = "uv pip"
        python = [Step("uv sync --frozen --inexact --quiet", folder) for folder in locked]
    else:
        python = _pip_steps(checkout, files, pip)
    needs_python = bool(python or ASKS_PYTHON.search(verification))
    if needs_python:
        python.append(Step(f"python -c 'import pytest' 2>/dev/null || {pip} install --quiet pytest"))
    steps = (*python, *_node_steps(checkout, files), *_compiler_steps(checkout, files, verification))
    return Recipe(needs_python, steps, _ingredients(checkout, files))


def _pip_steps(checkout: Path, files: list[str], pip: str) -> list[Step]:
    words: list[str] = []
    for file in files:
        if REQUIREMENTS.fullmatch(_under_folder(file)):
            words += ["-r", file]
    for folder in sorted({os.path.dirname(file) for file in files}):
        here = {os.path.basename(file) for file in files if os.path.dirname(file) == folder}
        if here & {"pyproject.toml", "setup.py"}:
            words += _project_words(checkout, folder, here)
    return [Step(f"{pip} install --quiet {shlex.join(words)}")] if words else []


def _project_words(checkout: Path, folder: str, here: set[str]) -> list[str]:
    """What pip is to install for the project in `folder`."""
    about = _toml(checkout, os.path.join(folder, "pyproject.toml")) if "pyproject.toml" in here else {}
    project = _table(about, "project")
    optional = _table(project, "optional-dependencies")
    words = [need for name in TEST_EXTRAS for need in _group(_table(about, "dependency-groups"), name)]
    extras = [name for name in TEST_EXTRAS if name in optional]
    if "setup.py" in here or ("build-system" in about and (project or "tool" in about)):
        place = "./" + folder if folder else "."
        return ["-e", place + (f"[{','.join(extras)}]" if extras else ""), *words]
    return [*project.get("dependencies", ()), *(need for name in extras for need in optional[name]), *words]


def _group(groups: dict[str, Any], name: str, depth: int = 0) -> list[str]:
    """The requirements of a dependency group, with the groups that it includes."""
    needs: list[str] = []
    for need in groups.get(name, []) if depth < 10 else []:
        if isinstance(need, str):
            needs.append(need)
        elif isinstance(need, dict) and "include-group" in need:
            needs += _group(groups, need["include-group"], depth + 1)
    return needs


def _node_steps(checkout: Path, files: list[str]) -> list[Step]:
    steps: list[Step] = []
    for file in files:
        folder, name = os.path.split(file)
        if name != "package.json":
            continue
        package = _json(checkout, file)
        if any(
            package.get(key)
            for key in ("dependencies", "devDependencies", "optionalDependencies", "workspaces")
        ):
            locked = any(
                os.path.join(folder, lock) in files for lock in ("package-lock.json", "npm-shrinkwrap.json")
            )
            install = "npm ci" if locked else "npm install --no-package-lock"
            steps.append(Step(f"{install} --no-audit --no-fund --loglevel=error", folder or "."))
    return steps


def _compiler_steps(checkout: Path, files: list[str], verification: str) -> list[Step]:
    """What Go and Rust need; nothing where the machine has them not, which the verification says then."""
    steps: list[Step] = []
    modules: list[str] = []  # of workspaces, which are set up as a whole, and first
    for file in sorted(files, key=lambda file: os.path.basename(file) != "go.work"):
        folder, name = os.path.split(file)
        if name == "go.work" and ASKS_GO.search(verification):
            used = go_modules((checkout / file).read_text(errors="replace"))
            modules += (os.path.normpath(os.path.join(folder, each)) for each in used)
            steps += [_go_step(checkout, folder, go_packages(used))] if used else []
        elif name == "go.mod" and ASKS_GO.search(verification) and (folder or ".") not in modules:
            steps.append(_go_step(checkout, folder, "./..."))
        elif name == "Cargo.toml" and ASKS_CARGO.search(verification):
            locked = " --locked" if (checkout / folder / "Cargo.lock").is_file() else ""
            steps.append(Step(_if_there("cargo", f"cargo fetch --quiet{locked}"), folder or "."))
    return steps


def _go_step(checkout: Path, folder: str, packages: str) -> Step:
    vendored = (checkout / folder / "vendor" / "modules.txt").is_file()
    fetch = "" if vendored else "go mod download && "
    # Compiling the tests warms the cache; code that does not compile is the verification's business.
    return Step(_if_there("go", f"{fetch}{{ {GO_COMPILE.format(packages)} || true; }}"), folder or ".")


def _if_there(program: str, line: str) -> str:
    return f"if command -v {program} >/dev/null; then {line}; fi"


def _locks(checkout: Path) -> list[str]:
    """Files that say what a project depends on: of the root, the folders in it, their `requirements`, and the
    modules of a go.work at the root.
    """
    found: list[str] = []
    folders = [""]
    with os.scandir(checkout) as entries:
        folders += sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and entry.name != "node_modules"
        )[:MOST_FOLDERS]
    folders += [f"{folder}/requirements" for folder in folders if folder and folder != "requirements"]
    if (work := checkout / "go.work").is_file():
        used = go_modules(work.read_text(errors="replace"))
        folders += [each for each in used if each not in (".", *folders)]
    for folder in folders:
        here = checkout / folder
        if here.is_dir():
            with os.scandir(here) as entries:
                names = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            paths = (f"{folder}/{name}" if folder else name for name in names)
            found += [path for path in paths if LOCKS.fullmatch(_under_folder(path))]
    return found


def _under_folder(path: str) -> str:
    """`path` without the project's folder: its name, or its name in a folder `requirements`."""
    folder, name = os.path.split(path)
    return f"requirements/{name}" if os.path.basename(folder) == "requirements" else name


def _ingredients(checkout: Path, files: Iterable[str]) -> dict[str, str]:
    digests: dict[str, str] = {}
    total = 0
    for file in dict.fromkeys(files):
        data = (checkout / file).read_bytes()
        total += len(data)
        if total > MOST_BYTES:
            raise SetupFailed(f"the lock files are larger than {MOST_BYTES >> 20} MiB together")
        digests[file] = hashlib.sha256(data).hexdigest()
    return digests


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return [word for word in words if not os.path.isabs(word) and ".." not in Path(word).parts]


def _toml(checkout: Path, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads((checkout / file).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise SetupFailed(f"{file} is not TOML: {problem}") from problem


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _json(checkout: Path, file: str) -> dict[str, Any]:
    try:
        value = json.loads((checkout / file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise SetupFailed(f"{file} is not JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise SetupFailed(f"{file} is not a JSON object")
    return value
