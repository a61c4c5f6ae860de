"""A role: what a worker is told to be, what it may use and write, and how its work is verified."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.workers.roles.scope import Kinds, Scope, WriteRules, overridden, scope_of
from services.workers.tools.toolbox import TOOLS
from services.workers.work import Protected, ScopeOverride

T = TypeVar("T")
ROLES_FOLDER = Path(__file__).parent
ROLE_NAMES = ("backend", "frontend", "test", "planner")


class RoleError(Exception):
    """A role's data cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class Role:
    """One role. `commit_type` is the type in its commits' subjects; where it `plans`, it does no task.

    `advice` goes into the prompt beside the verification command. Where `new_tests`, work is green only with
    a passing test that the base has not, unless the task may change tests. Where `mutations`, a test of it
    must fail on a small wrong change of the code under test.
    """

    name: str
    title: str
    prompt: str
    tools: tuple[str, ...]
    writes: WriteRules
    commit_type: str
    new_tests: bool
    mutations: bool
    advice: str
    plans: bool = False

    def scope(
        self,
        may_change: frozenset[Protected],
        base_files: frozenset[str],
        project: ScopeOverride | None = None,
    ) -> Scope:
        """Return what this role may write in an attempt whose base has these files."""
        writes = overridden(self.writes, project) if project else self.writes
        return scope_of(self.name, writes, may_change, base_files)


def load_role(name: str, folder: Path = ROLES_FOLDER) -> Role:
    """Read a role from its folder. Raises RoleError."""
    file = folder / name / "role.toml"
    data = _Table(file, _toml(file))
    scope, verification = data.table("scope"), data.table("verification")
    kinds, plans = _kinds(folder / "kinds.toml"), data.flag("plans")
    role = Role(
        name=name,
        title=data.text("title"),
        prompt=_text(folder / name / "prompt.md"),
        tools=data.names("tools", TOOLS),
        writes=WriteRules(
            kinds=kinds,
            allow=scope.texts("allow"),
            allow_kinds=scope.names("allow_kinds", kinds),
            package_folders=scope.flag("package_folders"),
            deny=scope.texts("deny"),
            deny_kinds=scope.names("deny_kinds", kinds),
            protected=frozenset(
                Protected(kind) for kind in scope.names("protected", {kind.value: kind for kind in Protected})
            ),
        ),
        commit_type="" if plans else verification.text("commit_type"),
        new_tests=verification.flag("new_tests"),
        advice="" if plans else verification.text("advice"),
        plans=plans,
        mutations=verification.flag("mutations"),
    )
    for table in (data, scope, verification):
        table.end()
    return role


def _kinds(file: Path) -> Kinds:
    table = _Table(file, _toml(file))
    kinds = {name: table.texts(name) for name in (*(kind.value for kind in Protected), "build")}
    table.end()
    return kinds


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RoleError(f"{file}: {error.strerror}") from error


def _toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(_text(file))
    except tomllib.TOMLDecodeError as error:
        raise RoleError(f"{file}: {error}") from error


class _Table:
    """A TOML table that is read key by key; what is left at its end is a mistake."""

    def __init__(self, file: Path, values: dict[str, object]) -> None:
        self._file = file
        self._left = values

    def text(self, key: str) -> str:
        return self._take(key, str, None)

    def flag(self, key: str) -> bool:
        return self._take(key, bool, False)

    def texts(self, key: str) -> tuple[str, ...]:
        values: list[object] = self._take(key, list, [])
        if any(not isinstance(value, str) for value in values):
            raise RoleError(f"{self._file}: {key} must be a list of strings")
        return tuple(str(value) for value in values)

    def names(self, key: str, known: Mapping[str, object]) -> tuple[str, ...]:
        names = self.texts(key)
        for name in names:
            if name not in known:
                raise RoleError(f"{self._file}: {key} has {name!r}; known are {', '.join(known)}")
        return names

    def table(self, key: str) -> "_Table":
        return _Table(self._file, self._take(key, dict, {}))

    def end(self) -> None:
        if self._left:
            raise RoleError(f"{self._file}: {', '.join(sorted(self._left))}: not known")

    def _take(self, key: str, kind: type[T], default: T | None) -> T:
        value = self._left.pop(key, default)
        if not isinstance(value, kind):
            raise RoleError(f"{self._file}: {key} must be a {kind.__name__}")
        return value
