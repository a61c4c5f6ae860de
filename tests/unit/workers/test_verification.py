"""Verification, with real pytest and node in the sandbox."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.workers.outcome import Outcome
from services.workers.sandbox import Limits, Mode, Sandbox
from services.workers.setup import Environment, OperatorSettings, Setup, find_toolchain
from services.workers.verification import TestReport, judge, narrowed, verify
from services.workers.work import Baseline
from tests.sandboxes import each_mode
from tests.wheelhouse import make_wheels

Write = Callable[[dict[str, str]], Path]
PYTEST = "python -m pytest -q"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with pytest, for Python and for node."""
    data = tmp_path_factory.mktemp("setup")
    (data / "empty").mkdir()
    make_wheels(data)

    async def prepare() -> Environment:
        sandbox = await Sandbox.open("auto", scratch=data / "scratch")
        operator = OperatorSettings({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(data)}, {}, (data,))
        setup = Setup(sandbox, data / "cache", find_toolchain(), operator, network=False)
        return await setup.prepare(data / "empty", verification=PYTEST)

    return asyncio.run(prepare())


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    return await Sandbox.open(request.param, scratch=tmp_path / "scratch", hidden=(Path.home(),))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(files: dict[str, str]) -> Path:
        checkout = tmp_path / "checkout"
        for name, text in files.items():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (checkout / name).write_text(text)
        checkout.mkdir(exist_ok=True)
        return checkout

    return write


@pytest.fixture
def check(sandbox: Sandbox, environment: Environment, write: Write) -> Callable[..., object]:
    async def check(files: dict[str, str], command: str = PYTEST, **more: object) -> TestReport:
        report = await verify(sandbox, environment, write(files), command, **more)  # type: ignore[arg-type]
        assert list(sandbox.scratch.iterdir()) == []
        return report

    return check


Check = Callable[..., "asyncio.Future[TestReport]"]

PYTHON_TESTS = """
import pytest, unittest

def test_passes(): pass
def test_fails(): assert 1 == 2, "one is not two"
@pytest.mark.parametrize("n", [1, 2])
def test_each(n): assert n == 1
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): assert False
@pytest.fixture
def broken(): raise RuntimeError("broken fixture")
def test_error(broken): pass
@pytest.fixture
def late():
    yield
    raise RuntimeError("broken teardown")
def test_late(late): pass
class TestClass:
    def test_inside(self): pass
class Old(unittest.TestCase):
    def test_old(self): pass
"""


async def test_pytest(check: Check, write: Write) -> None:
    files = {"tests/test_all.py": PYTHON_TESTS, "tests/test_broken.py": "import nothing_of_the_kind\n"}
    report = await check(files)
    here = "tests/test_all.py::"
    assert set(report.passed) == {
        here + name for name in ("test_passes", "test_each[1]", "TestClass::test_inside", "Old::test_old")
    }
    assert set(report.failed) == {here + "test_fails", here + "test_each[2]"}
    assert set(report.skipped) == {here + "test_skipped", here + "test_expected"}
    assert set(report.errors) == {here + "test_error", here + "test_late", "tests/test_broken.py"}
    assert report.exit_code != 0
    assert "one is not two" in report.output
    message = {test.id: test.message for test in report.tests}
    assert "one is not two" in message[here + "test_fails"]
    assert "broken teardown" in message[here + "test_late"]
    again = await check(files)
    assert (again.digest, again.duration != report.duration) == (report.digest, True)
    assert {path.name for path in write({}).rglob("*")} == {"tests", "test_all.py", "test_broken.py"}


STEERED = """
import os, pytest
def pytest_collection_modifyitems(items): pass
def pytest_configure(config): config.addinivalue_line("markers", "slow: slow")
@pytest.fixture(autouse=True)
def elsewhere(tmp_path): os.chdir(tmp_path)
"""


async def test_what_of_the_tree_steers_is_told_by_its_place(check: Check) -> None:
    files = {"tests/conftest.py": STEERED, "tests/test_a.py": "def test_a(): pass\n"}
    report = await check(files)
    (steering,) = report.steering
    assert steering.startswith("tests/conftest.py: pytest_collection_modifyitems (")
    assert (await check(files, "cd tests && " + PYTEST)).steering[0].startswith("conftest.py: ")
    other = await check({**files, "tests/conftest.py": STEERED.replace("pass", "items.clear()")})
    assert other.steering != report.steering, "the same hook that does something else"


NODE_TESTS = """
import test, { describe, it } from 'node:test';
import assert from 'node:assert';
test('passes', () => {});
test('skipped', { skip: true }, () => {});
test('to do', { todo: true }, () => assert.fail('not yet'));
describe('suite', () => {
  it('one', () => {});
  describe('inner', () => it('two', () => assert.equal(1, 2, 'one is not two')));
});
test('parent', async (t) => { await t.test('child', () => {}); });
"""
PACKAGE = {"type": "module", "scripts": {"test": "node --test"}}


@pytest.mark.parametrize("script", ["node --test", "node --test --test-reporter=tap"])
@pytest.mark.parametrize("folder", ["", "web/"])
async def test_node(check: Check, script: str, folder: str) -> None:
    files = {
        folder + "package.json": json.dumps({"type": "module", "scripts": {"test": script}}),
        folder + "test/a.test.js": NODE_TESTS,
        folder + "test/b.test.js": "import test from 'node:test';\ntest('passes', () => {});\n",
        folder + "test/empty.test.js": "",
        folder + "test/broken.test.js": "import './nothing.js';\n",
    }
    report = await check(files, "npm test --prefix web" if folder else "npm test")
    a, b = f"{folder}test/a.test.js > ", f"{folder}test/b.test.js > "
    assert set(report.passed) == {
        a + "passes",
        a + "suite > one",
        a + "parent",
        a + "parent > child",
        b + "passes",
    }
    assert set(report.failed) == {a + "suite > inner > two"}
    assert set(report.skipped) == {a + "skipped", a + "to do"}
    assert set(report.errors) == {f"{folder}test/broken.test.js"}
    assert "one is not two" in next(test.message for test in report.tests if test.id.endswith("two"))
    assert report.exit_code == 1
    assert "one is not two" in report.output


async def test_green(check: Check) -> None:
    report = await check({"test_a.py": "def test_a(): pass\n"})
    assert judge(report).outcome is Outcome.SUCCEEDED
    report = await check(
        {"package.json": json.dumps(PACKAGE), "a.test.js": "import t from 'node:test'; t('a')"}, "npm test"
    )
    assert judge(report).green, report.output


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"app.py": ""}, PYTEST),
        ({"test_a.py": "def helper(): pass\n"}, PYTEST),
        ({"package.json": json.dumps(PACKAGE), "a.test.js": ""}, "npm test"),
    ],
    ids=["no file", "no function", "node"],
)
async def test_no_tests(check: Check, files: dict[str, str], command: str) -> None:
    report = await check(files, command)
    assert report.tests == ()
    assert judge(report).outcome is Outcome.NO_TESTS, report


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"conftest.py": "import os\nos._exit(0)\n", "test_a.py": "def test_a(): pass\n"}, PYTEST),
        ({"test_a.py": "import os\ndef test_a(): os._exit(0)\n"}, PYTEST),
        ({}, "echo 1 passed"),
        ({}, "echo garbage > $CODEFRAME_REPORT"),
        (
            {},
            'echo \'<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>\' > {report}',
        ),
        ({}, "mkfifo $CODEFRAME_REPORT"),
        ({}, "ln -s /etc/passwd $CODEFRAME_REPORT"),
        ({}, "head -c 20000000 /dev/zero > $CODEFRAME_REPORT"),
    ],
    ids=["conftest", "test", "words", "garbage", "entity", "fifo", "link", "huge"],
)
async def test_exit_code_0_proves_nothing(check: Check, files: dict[str, str], command: str) -> None:
    report = await check(files, command)
    assert report.exit_code == 0
    assert report.problem
    judgement = judge(report)
    assert judgement.outcome is Outcome.VERIFICATION_FAILED
    assert report.problem in judgement.summary


JUNIT = '<testsuites><testsuite><testcase classname="suite" name="works"/></testsuite></testsuites>'


@pytest.mark.parametrize(
    ("command", "report"),
    [
        ("cat junit.in > {report}", ""),
        ('cat junit.in > "$CODEFRAME_REPORT"', ""),
        ("cat junit.in > out/junit.xml", "out/junit.xml"),
    ],
)
async def test_a_command_that_reports_by_itself(check: Check, command: str, report: str) -> None:
    found = await check({"junit.in": JUNIT, "out/junit.xml": "<old/>"}, command, report=report)
    assert found.passed == ("suite::works",)


async def test_a_report_that_was_committed_proves_nothing(check: Check) -> None:
    found = await check({"out/junit.xml": JUNIT}, "true", report="out/junit.xml")
    assert found.problem


async def test_any_command_that_calls_pytest_and_node(check: Check) -> None:
    files = {
        "Makefile": "test:\n\tcd api && python -m pytest\n\tnode --test web\n",
        "api/test_a.py": "def test_a(): pass\n",
        "web/a.test.js": "require('node:test')('works')\n",
    }
    report = await check(
        files, "make test" if Path("/usr/bin/make").exists() else "cd api && pytest; cd .. && node --test"
    )
    assert set(report.passed) == {"test_a.py::test_a", "web/a.test.js > works"}, report.output


async def test_a_run_that_hangs_ends_with_its_children(check: Check) -> None:
    code = "import subprocess\ndef test_a(): subprocess.run(['sleep', '600'])\n"
    report = await check({"test_a.py": code}, timeout=3.0)
    assert report.timed_out
    assert judge(report).outcome is Outcome.TIMED_OUT


async def test_a_bound_that_is_passed_is_told(check: Check) -> None:
    code = (
        "import subprocess\ndef test_a(): [subprocess.Popen(['sleep', '60']) for _ in range(90)][0].wait()\n"
    )
    report = await check({"test_a.py": code}, limits=Limits(processes=40), timeout=20.0)
    assert not judge(report).green


async def test_a_test_that_listens(check: Check, sandbox: Sandbox) -> None:
    code = "import socket\ndef test_a():\n    s = socket.socket()\n    s.bind(('127.0.0.1', 0))\n"
    judgement = judge(await check({"test_a.py": code}))
    if sandbox.mode is Mode.BUBBLEWRAP:
        assert judgement.green
    else:
        assert judgement.outcome is Outcome.SETUP_FAILED
        assert "install bubblewrap" in judgement.summary


async def test_a_baseline_taken_and_judged_by(check: Check) -> None:
    before = await check(
        {"test_a.py": "def test_kept(): pass\ndef test_red(): assert 0\ndef test_gone(): pass\n"}
    )
    baseline = Baseline(frozenset(before.passed), frozenset((*before.failed, *before.errors)))
    assert judge(before, baseline).green, "red at the base counts against nobody"
    after = await check({"test_a.py": "def test_kept(): pass\ndef test_red(): assert 0\n"})
    judgement = judge(after, baseline)
    assert judgement.red == ("test_a.py::test_gone",)
    assert judgement.known == ("test_a.py::test_red",)
    assert judge(after, baseline, tests_may_go=True).green


@pytest.mark.parametrize(
    ("command", "paths", "line"),
    [
        ("python -m pytest -q", ["tests/test_a.py"], "python -m pytest -q tests/test_a.py"),
        ("pytest tests -x", ["tests/test_a.py"], "pytest -x tests/test_a.py"),
        ("pytest -k 'a b'", ["tests"], "pytest -k 'a b' tests"),
        ("npm test", ["a.test.js"], "npm test -- a.test.js"),
        ("npm test --prefix web", ["web/a.test.js"], "npm test --prefix web -- a.test.js"),
        ("npm test --prefix web", ["tests/test_a.py"], None),
        ("go test -v ./...", ["a/a_test.go", "a/b_test.go", "c_test.go"], "go test -v ./a ."),
        ("go test -run A ./...", ["a/a_test.go"], None),
        ("go test ./a", ["a/a_test.go"], None),
        ("make test", ["tests"], None),
        ("pytest && npm test", ["tests"], None),
        ("pytest", [], None),
    ],
)
def test_narrowed(write: Write, command: str, paths: list[str], line: str | None) -> None:
    checkout = write({"tests/test_a.py": "", "web/a.test.js": ""})
    assert narrowed(command, paths, checkout) == line
