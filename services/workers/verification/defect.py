"""Whether a report shows that tests fail, and nothing else does. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.workers.verification.judge import judge
from services.workers.verification.report import TestReport, TestState
from services.workers.work import Baseline

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Defect:
    """Ids of tests that ran and failed, or why a report does not show that; one of them is empty."""

    tests: tuple[str, ...] = ()
    problem: str = ""


def defect_of(report: TestReport, baseline: Baseline | None, named: Sequence[str]) -> Defect:
    """What a report of the base's code with new tests says of the tests that are named.

    A name is a test's id, or what that ends in or begins with, as runners print it. Each must have run
    and failed, not merely been unable to run; and must not have been red at the base. All other tests
    must be as they were.
    """
    if report.timed_out or report.problem or report.exceeded or report.bind_denied:
        return Defect(problem=judge(report, baseline).summary or "the tests could not be run")
    found: dict[str, None] = {}
    for name in named:
        ids = [test.id for test in report.tests if _is_called(test.id, name)]
        if not ids:
            return Defect(problem=f"no test is called {name}. {_red(report)}")
        for test in report.tests:
            if test.id in ids and test.state is not TestState.FAILED:
                return Defect(
                    problem=f"{test.id} did not run and fail, it is {test.state.value}. {_red(report)}"
                )
        found |= dict.fromkeys(ids)
    known = [test for test in found if baseline and test in baseline.red]
    if known:
        return Defect(problem=f"{known[0]} is red at the base already: that is known")
    red = [test for test in judge(report, baseline).red if test not in found]
    if red:
        shown = ", ".join(red[:SHOWN])
        return Defect(problem=f"other tests are red or missing, too: {shown}. Name them, or mend them")
    return Defect(tuple(found))


def _is_called(test: str, name: str) -> bool:
    """Whether a name means a test, or all cases of a test with parameters."""
    return (
        test == name or test.endswith((f"::{name}", f" > {name}", f"/{name}")) or test.startswith(f"{name}[")
    )


def _red(report: TestReport) -> str:
    if not report.failed:
        return "No test ran and failed"
    return f"Those that ran and failed: {', '.join(report.failed[:SHOWN])}"
