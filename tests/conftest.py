"""For every test."""

from tests.process_logs import _logs_before, _root_of_logs, pytest_runtest_makereport

__all__ = ["_logs_before", "_root_of_logs", "pytest_runtest_makereport"]
