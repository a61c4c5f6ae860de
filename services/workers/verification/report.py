"""A test report: what one run of a project's own checks said, test by test."""

import enum
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from services.workers.sandbox import Mode


class TestState(enum.Enum):
    """How a test ended; the worst last, which counts where a report names a test twice."""

    __test__ = False

    SKIPPED = "skipped"
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TestCase:
    """A test: its id (file, class and name), how it ended, and, where it did not pass, what it said."""

    __test__ = False

    id: str
    state: TestState
    message: str = ""


@dataclass(frozen=True, slots=True)
class TestReport:
    """One run of a verification. `tests` are in the report's order, each id once.

    `problem` says why there is no usable report, or none that is whole, else it is empty. `steering` is what
    of the tree takes part in how tests are found, run or told: hooks of pytest, for one. `exceeded` names a
    bound of the sandbox that ended the run. `duration` is in seconds; `output` is clipped in its middle.
    """

    __test__ = False

    command: str
    exit_code: int
    tests: tuple[TestCase, ...]
    duration: float
    mode: Mode
    output: str
    timed_out: bool = False
    exceeded: str = ""
    bind_denied: bool = False
    problem: str = ""
    steering: tuple[str, ...] = ()

    def ids(self, *states: TestState) -> tuple[str, ...]:
        """Ids of the tests in these states, in the report's order."""
        return tuple(test.id for test in self.tests if test.state in states)

    @property
    def passed(self) -> tuple[str, ...]:
        """Ids of tests that ran and passed."""
        return self.ids(TestState.PASSED)

    @property
    def failed(self) -> tuple[str, ...]:
        """Ids of tests that ran and failed."""
        return self.ids(TestState.FAILED)

    @property
    def errors(self) -> tuple[str, ...]:
        """Ids of tests, or of test files, that could not be run."""
        return self.ids(TestState.ERROR)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Ids of tests that were skipped, or are expected to fail."""
        return self.ids(TestState.SKIPPED)

    @property
    def digest(self) -> str:
        """sha256, in hex, of the command and of how each test ended: the same for the same results."""
        tests = sorted((test.id, test.state.value) for test in self.tests)
        return hashlib.sha256(json.dumps([self.command, tests]).encode()).hexdigest()


def each_once(tests: Iterable[TestCase]) -> tuple[TestCase, ...]:
    """`tests` with each id once, in its worst state."""
    order = {state: rank for rank, state in enumerate(TestState)}
    found: dict[str, TestCase] = {}
    for test in tests:
        known = found.get(test.id)
        if known is None or order[test.state] > order[known.state]:
            found[test.id] = test
    return tuple(found.values())
