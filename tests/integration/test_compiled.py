"""Go, Rust and Make: set up once with a network, verified without one, each test told by its runner.

Each needs its real toolchain on the machine; where there is none, it says so and is skipped.
"""

import base64
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from codeframe.finders import find_verification
from services.workers.sandbox import Mode, Sandbox
from services.workers.setup import Environment, Setup, find_operator_settings, find_toolchain
from services.workers.verification import TestReport, TestState, verify
from tests.sandboxes import allows, each_mode

pytestmark = pytest.mark.timeout(300)

TOOLS = find_toolchain()
needs_go = pytest.mark.skipif(TOOLS.go is None, reason="NO GO HERE: its setup and tests are not proven")
needs_cargo = pytest.mark.skipif(TOOLS.cargo is None, reason="NO CARGO HERE: its tests are not proven")
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="NO MAKE HERE: its tests are not proven")

Write = Callable[[dict[str, str]], Path]

CALC = """package calc

import "example.com/greet"

func Add(a, b int) int {
	if greet.Big(a) {
		return b
	}
	return a + b
}
"""
CALC_TEST = """package calc

import (
	"os"
	"testing"
)

func TestAdd(t *testing.T) {
	t.Run("small", func(t *testing.T) {
		if Add(1, 2) != 3 {
			t.Fatal("no")
		}
	})
	t.Run("later", func(t *testing.T) { t.Skip("later") })
}

func TestAlone(t *testing.T) {
	if os.Getenv("CODEFRAME_WITNESS") != "" {
		t.Fatal("it knows where tests are told")
	}
}
"""
TOOL_TEST = 'package tool\n\nimport "testing"\n\nfunc TestTool(t *testing.T) {}\n'
GREET = {
    "go.mod": "module example.com/greet\n",
    "greet.go": "package greet\n\nfunc Big(n int) bool { return n > 100 }\n",
}


def go_sum(files: dict[str, str], prefix: str) -> str:
    """A module's digest, as go.sum has it."""
    digests = {prefix + name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    listed = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return "h1:" + base64.b64encode(hashlib.sha256(listed.encode()).digest()).decode()


GO = {
    "go.mod": "module example.com/shop\n\ngo 1.20\n\nrequire example.com/greet v1.0.0\n",
    "go.sum": (
        f"example.com/greet v1.0.0 {go_sum(GREET, 'example.com/greet@v1.0.0/')}\n"
        f"example.com/greet v1.0.0/go.mod {go_sum({'go.mod': GREET['go.mod']}, '')}\n"
    ),
    "calc/calc.go": CALC,
    "calc/calc_test.go": CALC_TEST,
}
RUST = {
    "Cargo.toml": '[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2021"\n',
    "Cargo.lock": 'version = 3\n\n[[package]]\nname = "shop"\nversion = "0.1.0"\n',
    "src/lib.rs": (
        "/// Adds.\n///\n/// ```\n/// assert_eq!(shop::add(1, 2), 3);\n/// ```\n"
        "pub fn add(a: u64, b: u64) -> u64 {\n    a + b\n}\n\n#[cfg(test)]\nmod tests {\n"
        "    #[test]\n    fn adds() {\n        assert_eq!(super::add(1, 2), 3);\n    }\n"
        "    #[test]\n    #[ignore]\n    fn later() {}\n}\n"
    ),
    "tests/whole.rs": '#[test]\nfn whole() {\n    assert_eq!(shop::add(2, 2), 5, "two and two");\n}\n',
}
MAKE = {
    "Makefile": "test:\n\tsh run.sh\n",
    "run.sh": (
        "mkdir -p out\n"
        'echo \'<testsuite><testcase classname="shop" name="adds"/></testsuite>\' > out/unit.xml\n'
    ),
}


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    data = tmp_path / "data"
    return await Sandbox.open(request.param, scratch=data / "scratch", hidden=(data, Path.home()))


@pytest.fixture
def go_proxy(tmp_path: Path) -> Path:
    """A module proxy that is a folder, with one module."""
    versions = tmp_path / "proxy" / "example.com" / "greet" / "@v"
    versions.mkdir(parents=True)
    (versions / "list").write_text("v1.0.0\n")
    (versions / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (versions / "v1.0.0.mod").write_text(GREET["go.mod"])
    with zipfile.ZipFile(versions / "v1.0.0.zip", "w") as module:
        for name, text in GREET.items():
            module.writestr(f"example.com/greet@v1.0.0/{name}", text)
    return tmp_path / "proxy"


@pytest.fixture
def setup(sandbox: Sandbox, tmp_path: Path, go_proxy: Path) -> Setup:
    cache = tmp_path / "data" / "environments"
    cache.mkdir(parents=True)
    settings = {"GOPROXY": f"file://{go_proxy}", "GOSUMDB": "off"}
    operator = find_operator_settings(settings, Path("/nonexistent"))
    return Setup(sandbox, cache, find_toolchain(), operator, network=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    count = 0

    def write(files: dict[str, str]) -> Path:
        nonlocal count
        count += 1
        for name, text in files.items():
            place = tmp_path / "data" / "attempts" / str(count) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            os.utime(place, (1e9, 1e9))  # Go notes more of files that are not new
        return tmp_path / "data" / "attempts" / str(count)

    return write


def states(report: TestReport) -> dict[str, str]:
    assert report.problem == "", report.output
    return {test.id: test.state.value for test in report.tests}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# The stricter mode here: Go's store is then read-only by permission, not by the file system.
STRICTEST = Mode.SANDLOCK if allows(Mode.SANDLOCK) else Mode.BUBBLEWRAP


@pytest.mark.thorough  # Go compiles its standard library first: half a minute of a core
@needs_go
@pytest.mark.parametrize("sandbox", [STRICTEST], indirect=True)
async def test_go(setup: Setup, sandbox: Sandbox, write: Write, go_proxy: Path) -> None:
    base = write(GO)
    environment = await setup.prepare(base, verification="go test ./...")
    assert files_of(base) == set(GO)
    shutil.rmtree(go_proxy)
    store = setup.cache / environment.digest / "go" / "build"
    compiled = files_of(store)
    assert compiled, "the tests were compiled once, in setup"
    report = await verify(sandbox, environment, write(GO), "go test ./...", timeout=200)
    calc = "example.com/shop/calc"
    assert states(report) == {
        f"{calc} > TestAdd": "passed",
        f"{calc} > TestAdd/small": "passed",
        f"{calc} > TestAdd/later": "skipped",
        f"{calc} > TestAlone": "passed",
    }
    assert report.exit_code == 0
    assert f"ok  \t{calc}" in report.output
    assert "=== RUN" not in report.output, "people read what they would without us"

    wrong = {**GO, "calc/calc.go": GO["calc/calc.go"].replace("a + b", "a - b")}
    report = await verify(sandbox, environment, write(wrong), "go test ./...", timeout=200)
    assert (report.failed, report.exit_code) == ((f"{calc} > TestAdd/small", f"{calc} > TestAdd"), 1)
    assert "calc_test.go:11: no" in report.output
    broken = {**GO, "calc/calc.go": "package calc\n"}
    report = await verify(sandbox, environment, write(broken), "go test ./...", timeout=200)
    assert states(report) == {calc: "error"}
    assert files_of(store) == compiled, "what setup made is read-only inside attempts"


@needs_go
@pytest.mark.thorough
@pytest.mark.parametrize("sandbox", [STRICTEST], indirect=True)
async def test_a_workspace_of_go(setup: Setup, sandbox: Sandbox, write: Write, go_proxy: Path) -> None:
    """Every module of it is set up and tested, also one that lies deeper than setup looks for others."""
    deep = {f"services/calc/{name}": text for name, text in GO.items()}
    other = {"tool/go.mod": "module example.com/tool\n\ngo 1.20\n", "tool/tool_test.go": TOOL_TEST}
    files = {"go.work": "go 1.20\n\nuse (\n\t./services/calc\n\t./tool\n)\n", **deep, **other}
    command = find_verification(files, files.get)
    assert command == "go test ./services/calc/... ./tool/..."
    environment = await setup.prepare(write(files), verification=command)
    shutil.rmtree(go_proxy)
    report = await verify(sandbox, environment, write(files), command, timeout=200)
    tests = ("TestAdd", "TestAdd/small", "TestAdd/later", "TestAlone")
    told = {f"example.com/shop/calc > {test}" for test in tests}
    assert set(states(report)) == {*told, "example.com/tool > TestTool"}
    assert report.exit_code == 0


@needs_cargo
async def test_cargo(setup: Setup, sandbox: Sandbox, write: Write) -> None:
    environment = await setup.prepare(write(RUST), verification="cargo test")
    report = await verify(sandbox, environment, write(RUST), "cargo test", timeout=200)
    assert states(report) == {
        "shop src/lib.rs > tests::adds": "passed",
        "shop src/lib.rs > tests::later": "skipped",
        "whole tests/whole.rs > whole": "failed",
        "shop documents > src/lib.rs - add": "passed",
    }, report.output
    (red,) = [test for test in report.tests if test.state is TestState.FAILED]
    assert "two and two" in red.message
    broken = {**RUST, "src/lib.rs": 'pub fn add() -> u64 { "x" }\n'}
    report = await verify(sandbox, environment, write(broken), "cargo test", timeout=200)
    assert (states(report), report.exit_code) == ({"cargo test": "error"}, 101)


@needs_make
async def test_make(sandbox: Sandbox, write: Write) -> None:
    report = await verify(sandbox, Environment(), write(MAKE), "make test", report="out/unit.xml")
    assert states(report) == {"shop::adds": "passed"}
