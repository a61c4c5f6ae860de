"""A role: what a worker is told to be, what it may use and write, and how its work is verified."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codeframe.plan import Protected
from codeframe.tomlfile import Table, TomlError, read_toml
from services.workers.roles.scope import Kinds, Scope, WriteRules, overridden, scope_of
from services.workers.tools.toolbox import TOOLS
from services.workers.work import ScopeOverride

ROLES_FOLDER = Path(__file__).parent
ROLE_NAMES = ("backend", "frontend", "test", "planner")
PLANNER = "planner"
ROLE_FILE, PROMPT_FILE = "role.toml", "prompt.md"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,49}")
_COMMIT_TYPE = re.compile(r"[a-z]{1,20}")


class RoleError(Exception):
    """A role cannot be used. Each line of the message is `file:line:column: key: what`, or `file: what`."""


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
        verification: str = "",
    ) -> Scope:
        """Return what this role may write in an attempt whose base has these files, verified by a command."""
        writes = overridden(self.writes, project) if project else self.writes
        return scope_of(self.name, writes, may_change, base_files, verification)


def load_roles(given: Iterable[str]) -> Mapping[str, Role]:
    """The roles that are named, by name: one of ours, or a folder that holds a role.

    Raises RoleError, also where two have one name.
    """
    roles: dict[str, Role] = {}
    for one in dict.fromkeys(given):
        role = load_role(one) if one in ROLE_NAMES else _own_role(one)
        if role.name in roles:
            raise RoleError(f"{one}: there is a role called {role.name} already; rename the folder")
        roles[role.name] = role
    return roles


def _own_role(given: str) -> Role:
    folder = Path(given).absolute()
    if not folder.is_dir():
        files = f"a {ROLE_FILE} and a {PROMPT_FILE}"
        raise RoleError(f"{given}: is neither a role ({', '.join(ROLE_NAMES)}) nor a folder with {files}")
    if not _NAME.fullmatch(folder.name):
        what = "small letters, digits and hyphens, 50 at most, a letter first"
        raise RoleError(f"{given}: the folder's name is the role's name: {what}")
    return load_role(folder.name, folder.parent)


def load_role(name: str, parent: Path = ROLES_FOLDER) -> Role:
    """Read a role from the folder of its name in `parent`. Raises RoleError."""
    file = parent / name / ROLE_FILE
    prompt = _text(parent / name / PROMPT_FILE)
    try:
        kinds = _kinds(ROLES_FOLDER / "kinds.toml")
        table = read_toml(_text(file), str(file))
        role = _role(name, table, prompt, kinds)
        table.end()
    except TomlError as error:
        raise RoleError(str(error)) from None
    if not prompt.strip():
        raise RoleError(f"{parent / name / PROMPT_FILE}: is empty; say who the role is and how it works")
    return role


def _role(name: str, table: Table, prompt: str, kinds: Kinds) -> Role:
    plans, verification = table.flag("plans"), table.table("verification")
    if plans and name != PLANNER:
        table.problem("plans", f"only a role called {PLANNER} makes plans")
    commit_type = verification.text("commit_type") or "feat"
    if not _COMMIT_TYPE.fullmatch(commit_type):
        verification.problem("commit_type", "must be a word in small letters, such as feat or docs")
    return Role(
        name=name,
        title=table.text("title", longest=100, needed=True),
        prompt=prompt,
        tools=table.names("tools", TOOLS, needed=True),
        writes=_writes(table.table("scope"), kinds),
        commit_type="" if plans else commit_type,
        new_tests=verification.flag("new_tests"),
        mutations=verification.flag("mutations"),
        advice=verification.text("advice", longest=2000).strip(),
        plans=plans,
    )


def _writes(scope: Table, kinds: Kinds) -> WriteRules:
    """The rules for writing; where nothing is said of what is protected, all of it is."""
    protected = scope.names("protected", [kind.value for kind in Protected])
    is_said = "protected" in scope.keys
    return WriteRules(
        kinds=kinds,
        allow=scope.texts("allow"),
        allow_kinds=scope.names("allow_kinds", kinds),
        package_folders=scope.flag("package_folders"),
        deny=scope.texts("deny"),
        deny_kinds=scope.names("deny_kinds", kinds),
        protected=frozenset(map(Protected, protected)) if is_said else frozenset(Protected),
    )


def _kinds(file: Path) -> Kinds:
    table = read_toml(_text(file), str(file))
    kinds = {name: table.texts(name) for name in (*(kind.value for kind in Protected), "build")}
    table.end()
    return kinds


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise RoleError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RoleError(f"{file}: is not UTF-8 text: byte {error.start}") from error
