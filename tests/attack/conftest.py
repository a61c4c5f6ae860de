"""Counts attacks, and ends a run that tried some with their numbers; a run where one worked fails."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.attack.tally import RECORD, Kind, Tally, Tried

_TALLY = pytest.StashKey[Tally]()
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


@pytest.fixture
def attack(record_property: Callable[[str, Any], None]) -> Try:
    """Begin an attack: `attack(Kind.SANDBOX, mode)`. The test then says `won` where it worked, and fails."""

    def begin(kind: Kind = Kind.FALSE_GREEN, mode: str = "") -> Tried:
        tried = Tried(record_property, kind, mode)
        tried.begin()
        return tried

    return begin
