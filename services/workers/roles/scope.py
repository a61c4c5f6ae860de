"""What a role may write, in one attempt: asked at each write, and of the final diff."""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.workers.roles.globs import matches
from services.workers.work import Protected, ScopeOverride

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
    """A role's rules for one attempt: what its task may change besides, and the files of its base."""

    role: str
    rules: WriteRules
    may_change: frozenset[Protected]
    base_files: frozenset[str]
    package_folders: tuple[str, ...]

    def refusal(self, path: str) -> str | None:
        """Say why the file must not be written, created or deleted; None where it may.

        `path` is relative to the root, with slashes and links followed. A rename is two paths.
        """
        for kind in sorted(self.rules.protected - self.may_change, key=lambda kind: kind.value):
            if self._is(kind.value, path) and (kind is not Protected.TESTS or path in self.base_files):
                return f"{path}: {_PROTECTED[kind]}, which this task does not say may change; it is read-only"
        if matches(self.rules.deny, path) or any(self._is(kind, path) for kind in self.rules.deny_kinds):
            return f"{path}: is read-only to the {self.role} role"
        if not self._allowed(path):
            return f"{path}: is outside what the {self.role} role may write"
        return None

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
    role: str, rules: WriteRules, may_change: frozenset[Protected], base_files: frozenset[str]
) -> Scope:
    """Return the rules as they hold in an attempt with this base."""
    folders: tuple[str, ...] = ()
    if rules.package_folders:
        packages = (path for path in base_files if posixpath.basename(path) == "package.json")
        folders = tuple(sorted(posixpath.dirname(path) for path in packages))
    return Scope(role, rules, may_change, base_files, folders)
