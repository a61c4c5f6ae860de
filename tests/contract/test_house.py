"""Rules of the house that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("codeframe", "services", "gateway")
# What takes work off the event loop, or asks whether one runs.
BANNED = {"run_in_executor", "set_default_executor", "to_thread", "get_event_loop", "ThreadPoolExecutor"}


def names(source: str) -> Iterator[tuple[int, str]]:
    """Every name and attribute that the source uses, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def test_no_work_leaves_the_event_loop() -> None:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "_pb2" not in path.name]
    assert len(sources) > 20
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources
        for line, name in names(path.read_text())
        if name in BANNED
    ]
    assert found == []


@pytest.mark.parametrize("line", ["await loop.run_in_executor(None, f)", "asyncio.get_event_loop()"])
def test_the_rule_sees_what_it_forbids(line: str) -> None:
    assert BANNED & {name for _, name in names(f"async def f():\n    {line}\n")}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_name_no_registry_and_hash_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "every pin goes on with its hashes"
