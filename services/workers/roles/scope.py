"""What a role may write, in one attempt: asked at each write, and of the final diff."""

import posixpath
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from codeframe.plan import Protected
from services.workers.roles.globs import matches
from services.workers.work import ScopeOverride

Kinds = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class WriteRules:
    """A role's rules for writing. `kinds` are globs by kind of file, the same for every role.

    `package_folders` allows every folder of the base that has a package.json.
    """

    kinds: Kinds
    allow: tuple[str, ...] = ()
    allow_kinds: tuple[str, ...] = ()
    package_folders: bool = False
    deny: tuple[str, ...] = ()
    deny_kinds: tuple[str, ...] = ()
    protected: frozenset[Protected] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """A role's rules for one attempt: what its task may change besides, and the files of its base.

    What the verification command names is as read-only as CI: `checking` are such files of the base, and
    `recipes` globs of what a program that it calls reads, as `make` does.
    """

    role: str
    rules: WriteRules
    may_change: frozenset[Protected]
    base_files: frozenset[str]
    package_folders: tuple[str, ...]
    checking: frozenset[str] = frozenset()
    recipes: tuple[str, ...] = ()

    def refusal(self, path: str) -> str | None:
        """Say why the file must not be written, created or deleted; None where it may.

        `path` is relative to the root, with slashes and links followed. A rename is two paths.
        """
        for kind in sorted(self.rules.protected - self.may_change, key=lambda kind: kind.value):
            if why := self._protects(kind, path):
                return f"{path}: {why}, which this task does not say may change; it is read-only"
        if matches(self.rules.deny, path) or any(self._is(kind, path) for kind in self.rules.deny_kinds):
            return f"{path}: is read-only to the {self.role} role"
        if not self._allowed(path):
            return f"{path}: is outside what the {self.role} role may write"
        return None

    def _protects(self, kind: Protected, path: str) -> str:
        """Why a kind that is protected holds the file; empty where it does not."""
        if kind is Protected.CI and (path in self.checking or matches(self.recipes, path)):
            return _PROTECTED[kind]
        if kind is Protected.CI and path not in self.base_files and _is_pythons_own(path):
            return "stands in the way of a module of Python's own"
        if not self._is(kind.value, path):
            return ""
        if kind is not Protected.TESTS or path in self.base_files:
            return _PROTECTED[kind]
        return "acts on tests that the base has" if self._acts_on_tests(path) else ""

    def _acts_on_tests(self, path: str) -> bool:
        """Whether a new file of the tests has a say in how those run that the base has below its folder."""
        folder, name = posixpath.split(path)
        mocks = _MOCKS.search(path)
        if self._shadows(path):
            return True
        if name not in _ACTING and not mocks:
            return False
        above = path[: mocks.start()] if mocks else f"{folder}/" if folder else ""
        return any(file.startswith(above) and self.is_test(file) for file in self.base_files)

    def _shadows(self, path: str) -> bool:
        """Whether tests of the base would import the file in place of the code that they mean.

        pytest has Python look first in the folder of a test, unless that is a package itself.
        """
        module = path.removesuffix("/__init__.py").removesuffix(".py")
        folder, name = posixpath.split(module)
        if module == path or f"{folder}/__init__.py" in self.base_files:
            return False
        code, folders = _layout(self.rules.kinds[Protected.TESTS.value], self.base_files)
        return folder in folders and name in code

    @property
    def protects_tests(self) -> bool:
        """Whether tests of the base are read-only."""
        return Protected.TESTS in self.rules.protected - self.may_change

    def is_test(self, path: str) -> bool:
        """Whether a file belongs to the tests."""
        return self._is(Protected.TESTS.value, path)

    def is_code(self, path: str) -> bool:
        """Whether a file is the project's own code, as far as its path tells: no test, build or CI file."""
        return not any(self._is(kind, path) for kind in self.rules.kinds) and not _FOREIGN.search(path)

    def _allowed(self, path: str) -> bool:
        kinds = (*self.rules.allow_kinds, *(kind.value for kind in self.may_change))
        return (
            matches(self.rules.allow, path)
            or any(self._is(kind, path) for kind in kinds)
            or any(folder == "" or path.startswith(f"{folder}/") for folder in self.package_folders)
        )

    def _is(self, kind: str, path: str) -> bool:
        return matches(self.rules.kinds[kind], path)


_FOREIGN = re.compile(r"(^|/)(node_modules|site-packages|vendor|third_party|dist|build|target|\..*)/")


@lru_cache(maxsize=4)
def _layout(tests: tuple[str, ...], files: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The names that the project's own code is imported by, and the folders that hold tests."""
    of_tests = frozenset(file for file in files if matches(tests, file))
    code = frozenset(_top_module(file) for file in files - of_tests) - {""}
    return code, frozenset(map(posixpath.dirname, of_tests))


def _top_module(path: str) -> str:
    """The name that a file of Python is imported by, from the root or from src, as far as its first dot."""
    parts = path.removeprefix("src/").split("/")
    return parts[0].removesuffix(".py") if path.endswith(".py") else ""


def _is_pythons_own(path: str) -> bool:
    """Whether whatever imports a module of Python's own would get this file, the test runner too."""
    module = path.removeprefix("src/").removesuffix("/__init__.py").removesuffix(".py")
    return path.endswith(".py") and module in sys.stdlib_module_names


_RECIPES = {
    "make": ("**/Makefile", "**/makefile", "**/GNUmakefile", "**/*.mk"),
    "just": ("**/justfile", "**/.justfile", "**/Justfile"),
    "task": ("**/Taskfile.yml", "**/Taskfile.yaml"),
    "rake": ("**/Rakefile", "**/*.rake"),
}
_ACTING = ("conftest.py", "__init__.py")
_MOCKS = re.compile(r"(?:^|(?<=/))__mocks__/")
_PROTECTED = {
    Protected.TESTS: "is a test file that the base has",
    Protected.DEPENDENCIES: "says what the project depends on",
    Protected.CI: "says how the project is checked",
}


def overridden(rules: WriteRules, project: ScopeOverride) -> WriteRules:
    """The rules as a project bounds them. What is protected stays so."""
    if project.allow:
        if Protected.TESTS.value in rules.allow_kinds:  # so the project says where its tests are
            tests = (*rules.kinds[Protected.TESTS.value], *project.allow)
            rules = replace(rules, kinds={**rules.kinds, Protected.TESTS.value: tests})
        rules = replace(rules, allow=project.allow, allow_kinds=(), package_folders=False)
    return replace(rules, deny=(*rules.deny, *project.deny))


def scope_of(
    role: str,
    rules: WriteRules,
    may_change: frozenset[Protected],
    base_files: frozenset[str],
    verification: str = "",
) -> Scope:
    """Return the rules as they hold in an attempt with this base, and this command to verify it."""
    folders: tuple[str, ...] = ()
    if rules.package_folders:
        packages = (path for path in base_files if posixpath.basename(path) == "package.json")
        folders = tuple(sorted(posixpath.dirname(path) for path in packages))
    words = _words(verification)
    tests = rules.kinds[Protected.TESTS.value]
    checking = frozenset(path for path in _named(words, base_files) if not matches(tests, path))
    recipes = tuple(glob for word in words for glob in _RECIPES.get(posixpath.basename(word), ()))
    return Scope(role, rules, may_change, base_files, folders, checking, recipes)


@lru_cache(maxsize=64)
def _words(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError:
        return tuple(command.split())


def _named(words: Iterable[str], base_files: frozenset[str]) -> Iterator[str]:
    """Files of the base that a command names, from whatever folder it means them."""
    meant = {posixpath.normpath(word) for word in words if word and not word.startswith("-")}
    names = {posixpath.basename(word) for word in meant}
    for path in base_files:
        parts = path.split("/")
        if parts[-1] in names and any("/".join(parts[start:]) in meant for start in range(len(parts))):
            yield path
