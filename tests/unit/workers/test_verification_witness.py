"""What tests tell as they run: the pipe, its lines, and what is judged of them."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from services.workers.outcome import Outcome
from services.workers.sandbox import Mode
from services.workers.verification import TestCase, TestReport, TestState, judge
from services.workers.verification.parse import ReportError
from services.workers.verification.pipe import MOST_BYTES, listening
from services.workers.verification.settings import differ, speaks_of_tests
from services.workers.verification.witnessed import Witnessed, read_witness
from services.workers.work import Baseline

PASSED, FAILED, SKIPPED = TestState.PASSED, TestState.FAILED, TestState.SKIPPED


async def told_by(command: str, place: Path) -> None:
    process = await asyncio.create_subprocess_exec("sh", "-c", command, "sh", str(place))
    assert await process.wait() == 0


async def test_a_pipe_takes_what_several_tell_and_nobody_waits(tmp_path: Path) -> None:
    place = tmp_path / "pipe"
    with listening(place) as pipe:
        await told_by('seq 100000 > "$1"; echo last > "$1"', place)
        await told_by('rm "$1"; echo another > "$1"', place)
        data = pipe.all()
    assert data.decode().split() == [*map(str, range(1, 100_001)), "last"]


async def test_more_than_a_pipe_takes_is_read_and_refused(tmp_path: Path) -> None:
    with listening(tmp_path / "pipe") as pipe:
        await told_by(f'head -c {MOST_BYTES + 1} /dev/zero > "$1"', tmp_path / "pipe")
        with pytest.raises(ReportError, match="more than 16 MiB"):
            pipe.all()


async def test_a_pipe_leaves_no_descriptor(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with listening(tmp_path / "pipe"):
        pass
    assert os.listdir("/proc/self/fd") == before


def lines(*said: object) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in said)


async def test_lines_are_tests_what_steers_and_sessions() -> None:
    data = lines(
        {"start": 1},
        {"id": "a", "state": "passed", "message": ""},
        {"steers": "conftest.py: pytest_runtest_call (1)"},
        {"steers": "conftest.py: pytest_runtest_call (1)"},
        {"end": 0},
        {"start": 2},
        {"id": "b", "state": "failed", "message": "no"},
    )
    assert await read_witness(data + b'{"id": "cut') == Witnessed(
        (TestCase("a", PASSED), TestCase("b", FAILED, "no")),
        ("conftest.py: pytest_runtest_call (1)",),
        began=2,
        unended=1,
    )
    assert await read_witness(b"") == Witnessed()


@pytest.mark.parametrize(
    "data", [b"said\n", b"[1]\n", b"null\n", b'{"id": "a"}\n', b'{"id": "a", "state": "ok"}\n']
)
async def test_what_is_no_line_of_ours_makes_the_report_useless(data: bytes) -> None:
    with pytest.raises(ReportError, match="something wrote between"):
        await read_witness(lines({"start": 1}) + data)


def report(*tests: tuple[str, TestState], steering: tuple[str, ...] = (), problem: str = "") -> TestReport:
    cases = tuple(TestCase(name, state) for name, state in tests)
    return TestReport("c", 0, cases, 1.0, Mode.BUBBLEWRAP, "", problem=problem, steering=steering)


BASE = Baseline(frozenset({"a", "b"}), steering=frozenset({"known"}))


def test_what_newly_steers_is_red_unless_tests_may_change() -> None:
    steered = report(("a", PASSED), ("b", PASSED), steering=("known", "new hook"))
    judgement = judge(steered, BASE)
    assert (judgement.outcome, judgement.red) == (Outcome.VERIFICATION_FAILED, ())
    assert judgement.summary.endswith("is not for this work to change; do without this: new hook")
    assert judge(steered, BASE, tests_may_go=True).green
    assert judge(steered).green, "of a run's base nothing was known"
    assert judge(report(("a", PASSED), ("b", PASSED), steering=("known",)), BASE).green


def test_a_runner_that_did_not_end_is_red_with_all_it_told() -> None:
    judgement = judge(report(("a", PASSED), ("b", PASSED), problem="ended before its end"), BASE)
    assert (judgement.green, judgement.summary) == (False, "ended before its end")


def test_tests_that_are_gone_are_named_where_they_may_go() -> None:
    judgement = judge(report(("a", SKIPPED), ("c", PASSED)), BASE, tests_may_go=True)
    assert (judgement.green, judgement.gone) == (True, ("a", "b"))
    assert judge(report(("a", PASSED), ("b", PASSED)), BASE).gone == ()


@pytest.mark.parametrize(
    ("path", "before", "after", "differs"),
    [
        ("package.json", '{"scripts": {"test": "a", "build": "b"}}', '{"scripts": {"test": "a"}}', False),
        ("package.json", '{"scripts": {"test": "a"}}', '{"scripts": {"test": "true"}}', True),
        (
            "web/package.json",
            '{"scripts": {"test": "a"}}',
            '{"scripts": {"test": "a", "pretest": "x"}}',
            True,
        ),
        ("package.json", '{"jest": {"bail": 1}}', "{}", True),
        ("package.json", "{}", "not json", True),
        ("package.json", "{}", "[]", True),
        ("new/package.json", None, '{"scripts": {"test": "a"}}', False),
        ("package.json", '{"scripts": {"test": "a"}}', None, True),
        ("pyproject.toml", "", '[project]\nname = "a"\n', False),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\n",
            '[tool.pytest.ini_options]\naddopts = "-x"\n',
            True,
        ),
        ("pyproject.toml", "", '[project.entry-points.pytest11]\na = "a"\n', True),
        ("pyproject.toml", None, "[tool.pytest.ini_options]\n", True),
        ("pyproject.toml", None, "[tool.black]\n", False),
        ("setup.cfg", "[metadata]\nname = a\n", "[metadata]\nname = b\n", False),
        ("setup.cfg", "", "[tool:pytest]\naddopts = -p evil\n", True),
        ("setup.cfg", "", "[options.entry_points]\npytest11 =\n  a = a\n", True),
        ("Cargo.toml", "[package]\n", '[package]\n[dependencies]\nserde = "1"\n', False),
        ("Cargo.toml", "[package]\n", "[package]\nautotests = false\n", True),
        ("Cargo.toml", "[lib]\n", "[lib]\ntest = false\n", True),
        ("Cargo.toml", "[lib]\n", '[lib]\ncrate-type = ["cdylib"]\n', False),
        ("Cargo.toml", "", '[[test]]\nname = "sums"\nharness = false\n', True),
        ("crates/new/Cargo.toml", None, '[[test]]\nname = "sums"\n', False),
        ("Cargo.toml", "[package]\n", "lib = 1\n", True),
    ],
)
def test_settings_of_tests_among_others(
    path: str, before: str | None, after: str | None, differs: bool
) -> None:
    assert speaks_of_tests(path)
    assert differ(path, before, after) is differs
