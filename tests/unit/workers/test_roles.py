"""The roles as data, and what each may write."""

from pathlib import Path

import pytest

from codeframe.plan import Protected
from services.workers.roles.globs import matches
from services.workers.roles.role import ROLE_NAMES, Role, RoleError, load_role, load_roles
from services.workers.tools.toolbox import TOOLS
from services.workers.work import ScopeOverride

BASE = frozenset({
    "app.py", "tests/test_app.py", "pyproject.toml", "docs/index.md", ".github/workflows/ci.yml",
    "web/package.json", "web/src/App.jsx", "web/src/App.test.jsx", "codeframe.toml",
})  # fmt: skip

WRITES = {
    "backend": "app.py new.py docs/index.md tests/test_new.py tests/data/new.json web/src/App.jsx Makefile "
    "shop/vendor/models.py src/lib.rs build.rs",
    "frontend": "web/src/App.jsx web/README.md web/src/New.test.jsx src/ui/A.ts static/x.css index.html "
    "frontend/x.json templates/a.html",
    "test": "tests/test_app.py tests/test_new.py tests/conftest.py tests/data/new.json pkg/test_x.py "
    "web/src/App.test.jsx web/src/__tests__/New.jsx",
}
REFUSED = {
    "backend": "tests/test_app.py web/src/App.test.jsx pyproject.toml requirements.txt web/package.json "
    ".github/workflows/new.yml codeframe.toml tests/requirements-dev.txt go.mod api/go.sum go.work "
    "Cargo.toml "
    "crates/a/Cargo.lock rust-toolchain.toml vendor/modules.txt vendor/github.com/a/assert/assert.go",
    "frontend": "app.py src/new.py web/serve.py tests/test_new.py web/src/App.test.jsx web/package.json "
    "web/package-lock.json web/vite.config.js web/tsconfig.json pyproject.toml docs/index.md .github/x.js",
    "test": "app.py new.py web/src/App.jsx pyproject.toml tests/requirements.txt codeframe.toml pytest.ini "
    "contest.py latest/x.py",
}


@pytest.mark.parametrize(("role", "path"), [(role, path) for role in WRITES for path in WRITES[role].split()])
def test_a_role_writes_within_its_scope(role: str, path: str) -> None:
    assert load_role(role).scope(frozenset(), BASE).refusal(path) is None


@pytest.mark.parametrize(
    ("role", "path"), [(role, path) for role in REFUSED for path in REFUSED[role].split()]
)
def test_a_role_is_refused_outside_its_scope(role: str, path: str) -> None:
    refusal = load_role(role).scope(frozenset(), BASE).refusal(path)
    assert refusal is not None
    assert refusal.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("role", "kind", "path"),
    [
        ("backend", Protected.TESTS, "tests/test_app.py"),
        ("backend", Protected.DEPENDENCIES, "pyproject.toml"),
        ("backend", Protected.CI, ".github/workflows/ci.yml"),
        ("frontend", Protected.DEPENDENCIES, "web/package-lock.json"),
        ("frontend", Protected.TESTS, "web/src/App.test.jsx"),
        ("test", Protected.DEPENDENCIES, "pyproject.toml"),
        ("test", Protected.CI, "pytest.ini"),
    ],
)
def test_a_task_may_open_what_is_protected(role: str, kind: Protected, path: str) -> None:
    assert load_role(role).scope(frozenset(), BASE).refusal(path) is not None
    assert load_role(role).scope(frozenset({kind}), BASE).refusal(path) is None


@pytest.mark.parametrize("role", ["backend", "test"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            "pytest.py",
            "src/sitecustomize.py",
            "_pytest/runner.py",
            "vitest.config.ts",
            "vite.config.ts",
            "x.pth",
        ),
        *(".cargo/config.toml", "crates/a/.cargo/config", ".config/nextest.toml", "web/babel.config.js"),
    ],
)
def test_what_stands_before_the_test_runner_is_read_only(role: str, path: str) -> None:
    assert load_role(role).scope(frozenset(), BASE).refusal(path) is not None


def test_what_the_verification_names_is_read_only_but_for_tests() -> None:
    base = BASE | {"scripts/check.sh", "Makefile", "notes/Makefile"}

    def refused(path: str, verification: str, role: str = "backend") -> bool:
        return load_role(role).scope(frozenset(), base, None, verification).refusal(path) is not None

    assert refused("scripts/check.sh", "sh scripts/check.sh")
    assert refused("scripts/check.sh", "cd scripts && sh ./check.sh")
    assert not refused("scripts/check.sh", "python -m pytest")
    assert refused("GNUmakefile", "make -s test")
    assert refused("more/rules.mk", "/usr/bin/make test")
    assert not refused("Makefile", "python -m pytest")
    assert not refused("tests/test_app.py", "pytest tests/test_app.py", "test")
    declared = load_role("backend").scope(frozenset({Protected.CI}), base, None, "make test")
    assert declared.refusal("Makefile") is None


@pytest.mark.parametrize(
    "path",
    [
        "conftest.py",
        "tests/conftest.py",
        "tests/__init__.py",
        "tests/app.py",
        "tests/shop/__init__.py",
        "tests/shop.py",
        "web/src/__mocks__/App.jsx",
    ],
)
def test_a_new_file_that_acts_on_tests_of_the_base_is_refused(path: str) -> None:
    base = (BASE | {"src/shop/prices.py"}) - {path, "tests/conftest.py"}
    assert load_role("backend").scope(frozenset(), base).refusal(path) is not None
    assert load_role("backend").scope(frozenset({Protected.TESTS}), base).refusal(path) is None
    for allowed in ("checks/tests/conftest.py", "tests/shop/test_new.py", "tests/shop/data.py"):
        assert load_role("backend").scope(frozenset(), base).refusal(allowed) is None
    assert load_role("test").scope(frozenset(), base).refusal("tests/conftest.py") is None


def test_what_a_task_opens_does_not_make_a_frontend_write_python_or_build_files() -> None:
    scope = load_role("frontend").scope(frozenset(Protected), BASE)
    assert scope.refusal("tests/test_app.py") is not None
    assert scope.refusal("web/vite.config.js") is not None


def test_a_package_at_the_root_opens_the_whole_tree_to_the_frontend() -> None:
    scope = load_role("frontend").scope(frozenset(), frozenset({"package.json"}))
    assert scope.refusal("lib/data.json") is None
    assert scope.refusal("lib/data.py") is not None
    assert scope.refusal("package.json") is not None


def test_a_project_bounds_a_role() -> None:
    project = ScopeOverride(allow=("server/**", "tests/test_app.py"), deny=("server/generated/**",))
    scope = load_role("backend").scope(frozenset(), BASE, project)
    assert scope.refusal("server/new.py") is None
    assert scope.refusal("app.py") == "app.py: is outside what the backend role may write"
    assert scope.refusal("server/generated/x.py") == "server/generated/x.py: is read-only to the backend role"
    assert "is a test file that the base has" in str(scope.refusal("tests/test_app.py"))
    only_less = load_role("test").scope(frozenset(), BASE, ScopeOverride(deny=("tests/data/**",)))
    assert only_less.refusal("tests/test_new.py") is None
    assert only_less.refusal("tests/data/new.json") is not None
    moved = load_role("test").scope(frozenset(), BASE, ScopeOverride(allow=("checks/**",)))
    assert moved.refusal("checks/a.py") is None
    assert moved.refusal("tests/test_new.py") is not None


def test_each_role_has_its_prompt_tools_and_verification() -> None:
    roles = {name: load_role(name) for name in ROLE_NAMES}
    assert len({role.prompt for role in roles.values()}) == 4
    only = {name: set(role.tools) - set(roles["backend"].tools) for name, role in roles.items()}
    planner = {"outline", "propose_plan"}
    assert only == {
        "backend": set(),
        "frontend": {"add_component"},
        "test": {"outline", "report_defect"},
        "planner": planner,
    }
    assert [role.commit_type for role in roles.values()] == ["feat", "feat", "test", ""]
    assert [role.new_tests for role in roles.values()] == [False, False, True, False]
    assert [role.mutations for role in roles.values()] == [False, False, True, False]
    assert [role.plans for role in roles.values()] == [False, False, False, True]


def test_a_planner_can_write_nothing() -> None:
    role = load_role("planner")
    assert not [name for name in role.tools if TOOLS[name].writes]
    assert role.scope(frozenset(Protected), frozenset()).refusal("README.md") is not None


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("**/tests/**", "tests/a.py", True),
        ("**/tests/**", "a/b/tests/c/d.py", True),
        ("**/tests/**", "mytests/a.py", False),
        ("**/test_*.py", "test_a.py", True),
        ("**/test_*.py", "contest_a.py", False),
        ("*.toml", "a/b.toml", False),
        ("a.b", "axb", False),
        ("**", "any/thing", True),
    ],
)
def test_globs(glob: str, path: str, fits: bool) -> None:
    assert matches((glob,), path) is fits


def test_no_glob_matches_nothing() -> None:
    assert not matches((), "")


OWN = """\
title = "technical writer"
tools = ["list_files", "read_file", "write_file", "run_tests"]

[scope]
allow = ["docs/**", "**/*.md"]

[verification]
commit_type = "docs"
advice = "Documents change no test."
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "role.toml").write_text(OWN)
    (tmp_path / "docs" / "prompt.md").write_text("You write documents.\n")
    return tmp_path / "docs"


def test_a_role_of_ones_own_is_a_folder(own: Path) -> None:
    roles = load_roles(["backend", str(own), "backend"])
    assert list(roles) == ["backend", "docs"]
    role = roles["docs"]
    assert (role.title, role.commit_type, role.prompt) == (
        "technical writer",
        "docs",
        "You write documents.\n",
    )
    scope = role.scope(frozenset(), BASE)
    assert scope.refusal("docs/index.md") is None
    assert scope.refusal("app.py") == "app.py: is outside what the docs role may write"


def test_where_a_role_says_nothing_of_what_is_protected_all_of_it_is(own: Path) -> None:
    text = OWN.replace('"docs/**"', '"**"')
    (own / "role.toml").write_text(text)
    scope = load_role("docs", own.parent).scope(frozenset(), BASE)
    for path in ("tests/test_app.py", "pyproject.toml", "codeframe.toml"):
        assert scope.refusal(path) is not None
    (own / "role.toml").write_text(
        OWN.replace('"docs/**"', '"**"').replace("[verif", "protected = []\n[verif")
    )
    assert load_role("docs", own.parent).scope(frozenset(), BASE).refusal("pyproject.toml") is None


def test_a_role_of_ones_own_may_take_the_place_of_ours(own: Path) -> None:
    backend = own.rename(own.with_name("backend"))
    assert load_roles([str(backend)])["backend"].title == "technical writer"
    with pytest.raises(RoleError, match="there is a role called backend already; rename the folder"):
        load_roles(["backend", str(backend)])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"run_tests"', '"run_test"', ":2:51: tools[3]: 'run_test' is not known; did you mean run_tests?"),
        (
            "[scope]",
            '[scope]\nprotected = ["secrets"]',
            ":5:14: scope.protected[0]: 'secrets' is not known",
        ),
        (
            "commit_type",
            "comit_type",
            ":8:1: verification.comit_type: unknown key; did you mean commit_type?",
        ),
        ('"docs"\n', '"docs!"\n', ":8:1: verification.commit_type: must be a word in small letters"),
        ("advice =", 'new_tests = "no"\nadvice =', ":9:1: verification.new_tests: must be true or false"),
        ('allow = ["docs/**", ', "allow = [1, ", ":5:10: scope.allow[0]: must be a string"),
        ('title = "technical writer"', "", ":1:1: title: is missing"),
        ("tools = [", "toolz = [", ":1:1: tools: is missing"),
        ("[scope]", "plans = true\n[scope]", ":4:1: plans: only a role called planner makes plans"),
        ("[scope]", "[scope", ":4:7: Expected ']'"),
    ],
)
def test_a_mistake_in_a_role_names_its_place(own: Path, old: str, new: str, told: str) -> None:
    file = own / "role.toml"
    assert old in OWN
    file.write_text(OWN.replace(old, new, 1))
    with pytest.raises(RoleError) as raised:
        load_roles([str(own)])
    assert f"{file}{told}" in str(raised.value)


def test_a_role_that_is_not_there_is_an_error(own: Path) -> None:
    with pytest.raises(RoleError, match=r"^painter: is neither a role .* nor a folder"):
        load_roles(["painter"])
    (own / "prompt.md").write_text(" \n")
    with pytest.raises(RoleError, match=r"prompt\.md: is empty"):
        load_roles([str(own)])
    (own / "prompt.md").write_bytes(b"\xff")
    with pytest.raises(RoleError, match=r"prompt\.md: is not UTF-8 text: byte 0"):
        load_roles([str(own)])
    (own / "prompt.md").unlink()
    with pytest.raises(RoleError, match=r"prompt\.md: No such file"):
        load_roles([str(own)])
    odd = own.rename(own.with_name("My Docs"))
    with pytest.raises(RoleError, match=r"the folder's name is the role's name"):
        load_roles([str(odd)])


def test_a_role_is_frozen() -> None:
    role: Role = load_role("backend")
    with pytest.raises(AttributeError):
        role.name = "other"  # type: ignore[misc]
