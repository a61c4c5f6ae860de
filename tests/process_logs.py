"""What the processes that a test started have logged: shown where it fails, and asked for what held them up.

A process that a test starts logs to standard error, which pytest shows, or to a file `*.log` below its
temporary folder, which is found here.
"""

import os
import re
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

ROOT_OF_LOGS = pytest.StashKey[Path]()
SIZES = pytest.StashKey[Mapping[Path, int]]()
SHOWN = 20_000  # bytes of a log
NOT_LOOKED_INTO = {".git", ".venv", "venv", "node_modules", "site-packages", "objects", "refs"}
HELD_UP = "the event loop was held up"
SECONDS = re.compile(r'\bseconds"?[=:] ?([\d.]+)')


def sizes(root: Path) -> dict[Path, int]:
    """The logs below a folder, with their sizes in bytes."""
    return {path: path.stat().st_size for path in _logs(root)}


def written_since(root: Path, before: Mapping[Path, int]) -> dict[Path, str]:
    """What was logged since these were the sizes; a log that is shorter now was begun again."""
    found = {}
    for path in _logs(root):
        data = path.read_bytes()
        start = before.get(path, 0)
        if new := data[start if start <= len(data) else 0 :]:
            found[path] = new.decode(errors="replace")
    return found


def longest_lags(logs: Mapping[Path, str]) -> dict[str, float]:
    """How long the loops of the processes were held up at most, in seconds, where they told so."""
    found: dict[str, float] = {}
    for path, text in logs.items():
        for line in text.splitlines():
            if HELD_UP in line and (seconds := SECONDS.search(line)):
                found[path.name] = max(found.get(path.name, 0.0), float(seconds[1]))
    return found


def _logs(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_LOOKED_INTO and not name.endswith(".git")]
        for name in sorted(files):
            if name.endswith(".log") and not (path := Path(folder, name)).is_symlink():
                yield path


@pytest.fixture(autouse=True, scope="session")
def _root_of_logs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    request.config.stash[ROOT_OF_LOGS] = tmp_path_factory.getbasetemp()


@pytest.fixture(autouse=True)
def _logs_before(request: pytest.FixtureRequest, _root_of_logs: None) -> None:
    request.node.stash[SIZES] = sizes(request.config.stash[ROOT_OF_LOGS])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was logged while a test that fails ran."""
    report = yield
    root = item.config.stash.get(ROOT_OF_LOGS, None)
    if report.failed and root is not None:
        for path, text in written_since(root, item.stash.get(SIZES, {})).items():
            cut = f"(the last {SHOWN} of {len(text)} characters)\n" if len(text) > SHOWN else ""
            report.sections.append((f"{path.relative_to(root)}", cut + text[-SHOWN:]))
    return report
