"""Reading reports and judging them, without running anything."""

import json
from pathlib import Path

import pytest

from services.workers.outcome import Outcome
from services.workers.sandbox import Mode
from services.workers.verification import TestCase, TestReport, TestState, defect_of, judge
from services.workers.verification.parse import ID_LENGTH, MESSAGE_LENGTH, ReportError, parse
from services.workers.verification.report import each_once
from services.workers.verification.runners import reporting
from services.workers.work import Baseline

PASSED, FAILED, ERROR, SKIPPED = TestState.PASSED, TestState.FAILED, TestState.ERROR, TestState.SKIPPED
RED = Outcome.VERIFICATION_FAILED
HERE = Path("/checkout")


def report(*tests: tuple[str, TestState], exit_code: int = 0, **more: object) -> TestReport:
    cases = tuple(TestCase(name, state) for name, state in tests)
    return TestReport("pytest", exit_code, cases, 1.5, Mode.SANDLOCK, "", **more)  # type: ignore[arg-type]


BASE = Baseline(frozenset({"a", "b"}), frozenset({"old"}))


@pytest.mark.parametrize(
    ("found", "outcome", "red"),
    [
        (report(("a", PASSED), ("b", PASSED)), Outcome.SUCCEEDED, ()),
        (report(("a", PASSED), ("b", PASSED), ("new", PASSED)), Outcome.SUCCEEDED, ()),
        (report(("a", PASSED), ("b", PASSED), ("old", FAILED), exit_code=1), Outcome.SUCCEEDED, ()),
        (report(("a", PASSED), ("b", PASSED), ("new", FAILED), exit_code=1), RED, ("new",)),
        (report(("a", PASSED), ("b", PASSED), ("new", FAILED)), RED, ("new",)),
        (report(("a", PASSED), ("b", ERROR), exit_code=1), RED, ("b",)),
        (report(("a", PASSED), ("b", SKIPPED)), RED, ("b",)),
        (report(("a", PASSED)), RED, ("b",)),
        (report(exit_code=5), RED, ("a", "b")),
        (report(("a", PASSED), ("b", PASSED), exit_code=1), RED, ()),
        (report(timed_out=True, exit_code=137, problem="none"), Outcome.TIMED_OUT, ("a", "b")),
        (report(("a", PASSED), ("b", FAILED), exit_code=1, bind_denied=True), Outcome.SETUP_FAILED, ("b",)),
        (report(("a", PASSED), ("b", PASSED), exit_code=1, exceeded="memory"), RED, ()),
    ],
)  # fmt: skip
def test_judged_by_a_baseline(found: TestReport, outcome: Outcome, red: tuple[str, ...]) -> None:
    judgement = judge(found, BASE)
    assert (judgement.outcome, judgement.red) == (outcome, red)
    assert judgement.green == (judgement.summary == "") == (outcome is Outcome.SUCCEEDED)
    assert all(name in judgement.summary for name in red if outcome is RED)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (report(("a", PASSED)), Outcome.SUCCEEDED),
        (report(), Outcome.NO_TESTS),
        (report(exit_code=5), Outcome.NO_TESTS),
        (report(exit_code=5, problem="no report"), Outcome.NO_TESTS),
        (report(problem="no report"), Outcome.VERIFICATION_FAILED),
        (report(exit_code=4), Outcome.VERIFICATION_FAILED),
        (report(("a", SKIPPED)), Outcome.VERIFICATION_FAILED),
        (report(("a", PASSED), bind_denied=True), Outcome.SUCCEEDED),
    ],
)
def test_judged_by_itself(found: TestReport, outcome: Outcome) -> None:
    assert judge(found).outcome is outcome


def test_only_known_red_tests_is_not_green() -> None:
    judgement = judge(report(("old", FAILED), exit_code=1), Baseline(red=frozenset({"old"})))
    assert judgement.outcome is Outcome.VERIFICATION_FAILED
    assert judgement.summary == "no test passed"


def test_a_task_that_may_change_tests() -> None:
    assert judge(report(("a", PASSED), ("b", SKIPPED)), BASE, tests_may_go=True).green
    assert judge(report(("a", PASSED)), BASE, tests_may_go=True).green
    assert judge(report(), BASE, tests_may_go=True).outcome is Outcome.NO_TESTS


@pytest.mark.parametrize(
    ("found", "named", "tests", "problem"),
    [
        (report(("a", PASSED), ("b", PASSED), ("t::new", FAILED)), ["t::new"], ("t::new",), ""),
        (report(("a", PASSED), ("b", PASSED), ("t::new", FAILED)), ["new"], ("t::new",), ""),
        (
            report(("a", PASSED), ("b", PASSED), ("t[1]", FAILED), ("t[2]", FAILED)),
            ["t"],
            ("t[1]", "t[2]"),
            "",
        ),
        (report(("a", PASSED), ("b", FAILED)), ["b"], ("b",), ""),
        (report(("a", PASSED), ("b", PASSED), ("old", FAILED), ("n", FAILED)), ["n"], ("n",), ""),
        (
            report(("a", PASSED), ("b", PASSED), ("n", PASSED)),
            ["n"],
            (),
            "did not run and fail, it is passed",
        ),
        (report(("a", PASSED), ("b", PASSED), ("n", SKIPPED)), ["n"], (), "it is skipped"),
        (report(("a", PASSED), ("b", PASSED), ("n", ERROR)), ["n"], (), "it is error"),
        (report(("a", PASSED), ("b", PASSED), ("t[1]", FAILED), ("t[2]", PASSED)), ["t"], (), "t[2] did not"),
        (
            report(("a", PASSED), ("b", PASSED), ("x", FAILED)),
            ["n"],
            (),
            "no test is called n. Those that ran",
        ),
        (report(("a", PASSED), ("b", PASSED)), ["n"], (), "No test ran and failed"),
        (report(("a", PASSED), ("b", PASSED), ("old", FAILED)), ["old"], (), "red at the base already"),
        (report(("a", PASSED), ("b", PASSED), ("n", FAILED), ("m", FAILED)), ["n"], (), "too: m."),
        (report(("a", PASSED), ("n", FAILED)), ["n"], (), "too: b."),
        (report(("n", FAILED), timed_out=True), ["n"], (), "did not end within"),
        (report(problem="no report"), ["n"], (), "no report"),
        (report(("n", FAILED), exceeded="memory"), ["n"], (), "more memory"),
    ],
)
def test_a_defect_is_shown_by_tests_that_ran_and_failed_alone(
    found: TestReport, named: list[str], tests: tuple[str, ...], problem: str
) -> None:
    defect = defect_of(found, BASE, named)
    assert defect.tests == tests
    assert problem in defect.problem
    assert bool(defect.tests) != bool(defect.problem)


def test_a_test_named_twice_counts_by_its_worst() -> None:
    tests = [
        TestCase("a", PASSED),
        TestCase("b", PASSED),
        TestCase("a", ERROR, "late"),
        TestCase("b", SKIPPED),
    ]
    assert each_once(tests) == (TestCase("a", ERROR, "late"), TestCase("b", PASSED))


def test_the_digest_ignores_order_durations_and_words() -> None:
    one = TestReport("c", 0, (TestCase("a", PASSED, "x"), TestCase("b", FAILED)), 1.0, Mode.NONE, "out")
    two = TestReport("c", 1, (TestCase("b", FAILED), TestCase("a", PASSED, "y")), 2.0, Mode.NONE, "other")
    three = TestReport("c", 0, (TestCase("a", PASSED), TestCase("b", PASSED)), 1.0, Mode.NONE, "out")
    assert one.digest == two.digest != three.digest


async def test_what_is_long_is_clipped() -> None:
    text = f'<testsuite><testcase name="{"n" * 5000}"><failure>{"m" * 90000}</failure></testcase></testsuite>'
    (test,) = await parse(text.encode(), HERE)
    assert (len(test.id), len(test.message), test.state) == (ID_LENGTH, MESSAGE_LENGTH, FAILED)


async def test_too_many_tests() -> None:
    data = b"<testsuite>" + b'<testcase name="a"/>' * 200_001 + b"</testsuite>"
    with pytest.raises(ReportError, match="more than 200000 tests"):
        await parse(data, HERE)


@pytest.mark.parametrize(
    "data",
    [b"<", b"<a><b></a>", b"{}", b"[1]\n", b"null\n", b'{"id": 1}\n', b"\xff\xfe", b'{"testResults": [3]}'],
)
async def test_nonsense(data: bytes) -> None:
    with pytest.raises(ReportError):
        await parse(data, HERE)


async def test_jest_and_vitest() -> None:
    result = {
        "numTotalTests": 3,
        "testResults": [
            {
                "name": "/checkout/web/a.test.ts",
                "status": "failed",
                "assertionResults": [
                    {
                        "ancestorTitles": ["suite", "inner"],
                        "title": "one",
                        "status": "passed",
                        "failureMessages": [],
                    },
                    {"ancestorTitles": [], "title": "two", "status": "failed", "failureMessages": ["no"]},
                    {"ancestorTitles": [], "title": "three", "status": "pending"},
                ],
            },
            {
                "name": "/checkout/web/b.test.ts",
                "status": "failed",
                "message": "syntax",
                "assertionResults": [],
            },
        ],
    }
    assert await parse(json.dumps(result).encode(), HERE) == (
        TestCase("web/a.test.ts > suite > inner > one", PASSED),
        TestCase("web/a.test.ts > two", FAILED, "no"),
        TestCase("web/a.test.ts > three", SKIPPED),
        TestCase("web/b.test.ts", ERROR, "syntax"),
    )


@pytest.mark.parametrize(
    ("command", "script", "line"),
    [
        (
            "npm test",
            "vitest",
            "npm test -- --reporter=default --reporter=json --outputFile.json=/r/jest.json",
        ),
        ("npm test", "jest", "npm test -- --json --outputFile=/r/jest.json"),
        ("npm run test -- --ci", "jest", "npm run test -- --ci --json --outputFile=/r/jest.json"),
        (
            "npx vitest run",
            "",
            "npx vitest run --reporter=default --reporter=json --outputFile.json=/r/jest.json",
        ),
        ("npm test && echo", "vitest", "npm test && echo"),
        ("npm test", "node --test", "npm test"),
        ("make {report}", "", "make /r/report"),
    ],
)
def test_how_runners_are_told_to_report(tmp_path: Path, command: str, script: str, line: str) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"scripts": {"test": script}}))
    assert reporting(command, tmp_path, Path("/r")).line == line
