"""Counts attacks, and ends a run that tried some with their numbers; a run where one worked fails."""

from collections.abc import Callable, Generator
from typing import Any

import pytest

from tests.attack.tally import RECORD, Kind, Tally, Tried

_TALLY = pytest.StashKey[Tally]()
_FAILED = pytest.StashKey[bool]()
Try = Callable[..., Tried]


class Counter:
    """Collects what tests recorded, also where they ran in other processes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            tally = self._config.stash[_TALLY]
            for name, value in report.user_properties:
                if name == RECORD:
                    tally.add(*value)  # type: ignore[misc]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._config.stash[_TALLY].won and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        tally = config.stash[_TALLY]
        if tally.tried and not hasattr(config, "workerinput"):
            config.get_terminal_writer().line(tally.line())


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TALLY] = Tally()
    config.pluginmanager.register(Counter(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test failed, for `attack`."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture
def attack(
    request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]
) -> Generator[Try, None, None]:
    """Begin an attack: `attack(Kind.SANDBOX, mode)`. The test then says `won` where it worked, and fails.

    Where it fails and has said nothing of its one attack, that has worked.
    """
    begun: list[Tried] = []

    def begin(kind: Kind = Kind.FALSE_GREEN, mode: str = "") -> Tried:
        begun.append(Tried(record_property, kind, mode))
        begun[-1].begin()
        return begun[-1]

    yield begin
    said = [name for name, value in request.node.user_properties if name == RECORD and value[0] == "won"]
    if request.node.stash.get(_FAILED, False) and not said and len(begun) == 1:
        begun[0].won()
