"""Running the project's own checks, and judging what they say.

    report = await verify(sandbox, environment, checkout, command, report=path, timeout=300)
    judgement = judge(report, checks.baseline, tests_may_go=False)
    judgement.outcome  # SUCCEEDED, VERIFICATION_FAILED, NO_TESTS, TIMED_OUT or SETUP_FAILED
    narrower = narrowed(command, paths, checkout) or command  # what run_tests runs

A verification is a shell line, run at the root of a checkout. `verify` raises `SandboxError` where it
cannot be run at all; red tests, a report that is missing and a timeout are what the `TestReport` says.
`judge` is pure.
"""

from services.workers.verification.defect import defect_of
from services.workers.verification.judge import Judgement, judge
from services.workers.verification.narrow import narrowed
from services.workers.verification.report import TestCase, TestReport, TestState
from services.workers.verification.verify import verify

__all__ = [
    "Judgement",
    "TestCase",
    "TestReport",
    "TestState",
    "defect_of",
    "judge",
    "narrowed",
    "verify",
]
