"""For every test."""

from collections.abc import Callable

import pytest
import structlog

from tests.ports import free_port
from tests.process_logs import _logs_before, _root_of_logs, pytest_runtest_makereport

__all__ = ["_logs_before", "_root_of_logs", "pytest_runtest_makereport"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--rounds`."""
    parser.addoption("--rounds", type=int, default=3, help="how often test_soak.py does its ten tasks")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a soak is to be repeated."""
    given: int = request.config.getoption("--rounds")
    return given


@pytest.fixture(autouse=True)
def _plain_logs() -> None:
    """Log exceptions as servers do: structlog's own way, with local variables, takes seconds."""
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*others, renderer])


@pytest.fixture
def unused_tcp_port() -> int:
    """In place of pytest-asyncio's: a port that another process of a run beside this one is not given."""
    return free_port()


@pytest.fixture
def unused_tcp_port_factory() -> Callable[[], int]:
    """In place of pytest-asyncio's."""
    return free_port
