"""For every test."""

from collections.abc import Callable, Generator

import pytest
import structlog

from tests.ports import free_port
from tests.process_logs import _logs_before, _root_of_logs, pytest_runtest_makereport
from tests.python_project import python

UNMEASURED = (
    "tests/attack/",
    "tests/faults/",
    "tests/interop/",
    "tests/integration/test_bench.py",
    "tests/integration/test_cli_up.py",
    "tests/integration/test_compiled.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_hundred_tasks.py",
    "tests/integration/test_npm_runners.py",
    "tests/integration/test_own_role.py",
    "tests/integration/test_shared_limit.py",
    "tests/integration/test_soak.py",
)
"""Whole systems under load, attack and fault: others reach their branches too, and a tracer costs minutes."""

LONGEST = (
    "tests/interop/",
    "tests/integration/test_hundred_tasks.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_compiled.py",
    "tests/integration/test_soak.py",
    "tests/integration/test_own_role.py",
    "tests/integration/test_cli_up.py",
    "tests/integration/test_shared_limit.py",
    "tests/faults/test_git_load.py",
)
"""They begin first, then what is no unit test: begun last, one would have the others wait for its end."""

__all__ = ["_logs_before", "_root_of_logs", "pytest_runtest_makereport", "python"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--rounds` and `--times`."""
    parser.addoption("--rounds", type=int, default=3, help="how often test_soak.py does its ten tasks")
    parser.addoption("--times", type=int, default=1, help="how often each test is run")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each time that one is to be run."""
    times = metafunc.config.getoption("--times")
    if times > 1:
        metafunc.fixturenames.append("_time")
        metafunc.parametrize("_time", range(1, times + 1), ids=lambda time: f"time {time}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no branches where that costs much and tells nothing; begin with what takes longest."""
    for item in items:
        if item.nodeid.startswith(UNMEASURED):
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: (not item.nodeid.startswith(LONGEST), item.nodeid.startswith("tests/unit/")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The processes of a test that is not measured are not either, nor those of its module's fixtures."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("no_cover"):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        return (yield)


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
