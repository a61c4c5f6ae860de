"""The code that tests test: what they import, nearest first, else what they name. Reads the checkout."""

import ast
import asyncio
import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from services.workers.mutation.other_code import GO, RUST, SCRIPTS
from services.workers.verification.parse import ReportError
from services.workers.verification.reading import read_file

PYTHON = ".py"
FAMILIES: tuple[tuple[str, ...], ...] = ((PYTHON,), SCRIPTS, (GO,), (RUST,))
MOST_BYTES = 100_000  # of a file: what is parsed in a fraction of a second
MOST_FILES = 100
WORD = re.compile(r"[A-Za-z_$][\w$]*")

_SOURCE = re.compile(r"""\b(?:from|import|require)\s*\(?\s*["'](\.{1,2}/[^"'\n]{0,300})["']""")
_INDEXES = tuple(f"/index{ending}" for ending in SCRIPTS)


def sources_of(tests: Collection[str], candidates: Collection[str]) -> frozenset[str]:
    """The candidates that are code in a language of the tests, or, where none is, in any that is known."""
    known = {path for path in candidates if path.endswith(tuple(end for ends in FAMILIES for end in ends))}
    told = tuple(end for ends in FAMILIES if any(path.endswith(ends) for path in tests) for end in ends)
    of_tests = {path for path in known if told and path.endswith(told)}
    return frozenset(of_tests or known)


async def code_under_test(
    root: Path, tests: Sequence[str], sources: Collection[str]
) -> tuple[list[tuple[str, bytes]], frozenset[str]]:
    """The files of `sources` that tests reach by imports, breadth first; then the others that they name
    or lie beside; then the rest. At most 100, with their bytes; and the words that the tests use.
    """
    modules = _Modules(sources)
    queue = [(path, read(root, path) or b"") for path in tests]
    text = b"\n".join(data for _, data in queue).decode(errors="replace")
    words = frozenset(WORD.findall(text))
    found: dict[str, bytes] = {}
    for path, data in queue:  # grows as it goes
        for imported in _imports(path, data, modules):
            if imported not in found and len(found) < MOST_FILES and (source := read(root, imported)):
                found[imported] = source
                queue.append((imported, source))
        await asyncio.sleep(0)
    folders = {posixpath.dirname(path) for path in tests}
    others = sorted(sources - found.keys(), key=lambda path: (_far(path, folders, words), path))
    for path in others[: MOST_FILES - len(found)]:
        if source := read(root, path):
            found[path] = source
    return list(found.items()), words


def read(root: Path, path: str) -> bytes | None:
    """A file's bytes; None where it is no plain file inside the checkout, or a long one."""
    try:
        data = read_file(root / path, root)
    except ReportError:
        return None
    return data if data is not None and len(data) <= MOST_BYTES else None


def _far(path: str, folders: Collection[str], words: Collection[str]) -> int:
    folder, name = posixpath.split(path)
    if posixpath.splitext(name)[0] in words:
        return 0
    return 1 if folder in folders else 2


class _Modules:
    """Source files by what imports call them."""

    def __init__(self, sources: Collection[str]) -> None:
        self.sources = sources
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(sources, key=lambda path: (path.count("/"), path)):
            if path.endswith(PYTHON):
                self._by_name.setdefault(_dotted(path).rpartition(".")[2], []).append(path)

    def python(self, name: str) -> str | None:
        """The file of a module, in the folder nearest to the root where its name ends the path."""
        paths = self._by_name.get(name.rpartition(".")[2], ())
        return next((path for path in paths if f".{_dotted(path)}".endswith(f".{name}")), None)

    def script(self, folder: str, source: str) -> str | None:
        """The file that a relative import names, its ending or its index left out or not."""
        place = posixpath.normpath(posixpath.join(folder, source))
        stem = posixpath.splitext(place)[0]
        names = (place, *(f"{base}{end}" for base in (place, stem) for end in (*SCRIPTS, *_INDEXES)))
        return next((name for name in names if name in self.sources), None)


def _dotted(path: str) -> str:
    return path.removesuffix(PYTHON).removesuffix("/__init__").replace("/", ".")


def _imports(path: str, data: bytes, modules: _Modules) -> Iterator[str]:
    """The source files that a file imports."""
    if path.endswith(PYTHON):
        names = (modules.python(name) for name in _python_imports(path, data))
    elif path.endswith(SCRIPTS):
        folder = posixpath.dirname(path)
        found = _SOURCE.findall(data.decode(errors="replace"))
        names = (modules.script(folder, source) for source in found)
    else:
        return
    yield from (name for name in names if name is not None)


def _python_imports(path: str, data: bytes) -> Iterator[str]:
    """What a Python file may import, as dotted names: of `from a import b` both a.b and a."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = _dotted(path) if path.endswith("/__init__.py") else _dotted(path).rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            yield from (f"{module}.{alias.name}" for alias in node.names)
            yield module
