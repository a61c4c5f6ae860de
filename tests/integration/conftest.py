"""For every integration test: how long event loops were held up, its own and those of its processes."""

import asyncio
import gc
import inspect
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.runtime.lag import Lag, recording_lag
from tests.integration.lead_stage import house
from tests.process_logs import ROOT_OF_LOGS, SIZES, longest_lags, written_since

__all__ = ["house"]

MOST = 1.0
"""Seconds for which a loop may keep others waiting."""

LAG = pytest.StashKey[Lag]()
LOOP = pytest.StashKey[asyncio.AbstractEventLoop]()


@pytest.fixture
async def _own_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture(autouse=True)
def loop_lag(request: pytest.FixtureRequest, _logs_before: None) -> Generator[None]:
    """Fails a test in which a loop was held up for more than a second, and records the longest lag."""
    node: pytest.Item = request.node
    if inspect.iscoroutinefunction(request.function):
        node.stash[LOOP] = request.getfixturevalue("_own_loop")
    yield
    lags = longest_lags(written_since(request.config.stash[ROOT_OF_LOGS], node.stash[SIZES]))
    if lag := node.stash.get(LAG, None):
        lags["this test"] = lag.longest
    node.user_properties += [("loop lag", (name, seconds)) for name, seconds in lags.items()]
    late = {name: seconds for name, seconds in lags.items() if seconds > MOST}
    assert not late, f"event loops were held up, in seconds: {late}"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, bool | None, bool | None]:
    """Record only while the test itself runs: between fixtures its loop stands still."""
    loop = pyfuncitem.stash.get(LOOP, None)
    if loop is None:
        return (yield)
    with earlier_objects_uncollected(), recording_lag(loop=loop) as lag:
        pyfuncitem.stash[LAG] = lag
        return (yield)


@contextmanager
def earlier_objects_uncollected() -> Iterator[None]:
    """The garbage collector leaves alone what there was before: going through what a thousand earlier tests
    left takes it half a second, which no service of ours would wait for."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the loop that was held up longest."""
    lags: list[tuple[float, str, str]] = []
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport) and report.when == "teardown":
            found: list[Any] = [value for key, value in report.user_properties if key == "loop lag"]
            lags += [(seconds, name, report.nodeid) for name, seconds in found]
    if lags:
        seconds, name, test = max(lags)
        terminalreporter.write_line(f"longest event-loop lag: {seconds:.3f} s, {name}, in {test}")
