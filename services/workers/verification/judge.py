"""The verdict on a test report. Pure."""

from dataclasses import dataclass

from services.workers.outcome import Outcome
from services.workers.verification.report import TestReport
from services.workers.work import Baseline

NOTHING_COLLECTED = 5  # pytest's exit code
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a test report comes to. `red` are ids that make it red; `known` are red as they were at the base.

    `outcome` is SUCCEEDED, VERIFICATION_FAILED, NO_TESTS, TIMED_OUT or SETUP_FAILED; `summary` says why
    in a few lines for people, empty where it is green. `gone` are tests that passed before and are missing or
    skipped.
    """

    outcome: Outcome
    red: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    summary: str = ""
    gone: tuple[str, ...] = ()

    @property
    def green(self) -> bool:
        """Whether the tree is green."""
        return self.outcome is Outcome.SUCCEEDED


def judge(report: TestReport, baseline: Baseline | None = None, *, tests_may_go: bool = False) -> Judgement:
    """Judge a report by what is known of the tests; with no baseline, as if nothing was.

    Green: no test is red but those that were red at the base, and at least one passed; an exit code
    proves nothing, but one other than 0 that no red test explains is red. A test of the baseline that
    passed and is now missing or skipped is red, unless `tests_may_go`. No test at all is NO_TESTS, unless
    some should be there. What newly steers the tests is red, unless `tests_may_go`.
    """
    known_red = baseline.red if baseline else frozenset[str]()
    passed_before = baseline.passing if baseline else frozenset[str]()
    should_pass = frozenset[str]() if tests_may_go else passed_before
    bad = (*report.failed, *report.errors)
    new = tuple(test for test in bad if test not in known_red)
    known = tuple(test for test in bad if test in known_red)
    present = {test.id for test in report.tests}
    missing = tuple(sorted(should_pass - present))
    skipped = tuple(test for test in report.skipped if test in should_pass)
    red = (*new, *skipped, *missing)
    steers_known = baseline.steering if baseline else frozenset(report.steering)
    steering = () if tests_may_go else tuple(each for each in report.steering if each not in steers_known)

    if report.timed_out:
        return Judgement(
            Outcome.TIMED_OUT, red, known, f"the tests did not end within {report.duration:.0f} s"
        )
    if report.bind_denied and (red or not report.passed):
        return Judgement(Outcome.SETUP_FAILED, red, known, _bind_denied(report))
    if not report.tests and not missing and _says_no_tests(report):
        return Judgement(Outcome.NO_TESTS, summary="the command ran no test")
    reasons = [
        f"the command needed more {report.exceeded} than it may have" if report.exceeded else "",
        _reason("red", new),
        _reason("skipped, though passing before", skipped),
        _reason("missing, though passing before", missing),
        _steered(steering),
        report.problem,
    ]
    if not any(reasons):
        if not report.passed:
            reasons.append("no test passed")
        elif report.exit_code != 0 and not bad:
            reasons.append(f"the command ended with exit code {report.exit_code}, though no test is red")
    summary = "\n".join(filter(None, reasons))
    outcome = Outcome.VERIFICATION_FAILED if summary else Outcome.SUCCEEDED
    gone = (passed_before - present) | (passed_before & set(report.skipped))
    return Judgement(outcome, red, known, summary, tuple(sorted(gone)))


def _says_no_tests(report: TestReport) -> bool:
    if report.problem:
        return report.exit_code == NOTHING_COLLECTED
    return report.exit_code in (0, NOTHING_COLLECTED)


def _reason(what: str, tests: tuple[str, ...]) -> str:
    if not tests:
        return ""
    shown = ", ".join(tests[:SHOWN]) + (f" and {len(tests) - SHOWN} more" if len(tests) > SHOWN else "")
    return f"{len(tests)} {what}: {shown}"


def _steered(steering: tuple[str, ...]) -> str:
    if not steering:
        return ""
    told = "; ".join(steering[:SHOWN])
    return f"how the tests are found, run or told is not for this work to change; do without this: {told}"


def _bind_denied(report: TestReport) -> str:
    return (
        f"a test wants to listen on a port, which the sandbox mode {report.mode} cannot allow:"
        " install bubblewrap, which gives each command a loopback of its own"
    )
