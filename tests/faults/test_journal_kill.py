"""A lead is killed in the middle of a burst: what was acknowledged is there, and nothing is there by half."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from services.lead.journal import Journal, RowKind, StoreFailed
from tests.contract.stores import read_all, sqlite

WRITER = Path(__file__).with_name("journal_writer.py")


async def burst_and_kill(folder: Path, lines: int) -> list[tuple[str, int, str]]:
    """Kill a writer after so many acknowledgements; return all that it gave."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    said = [await child.stdout.readline() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    said += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    words = [line.decode().split() for line in said if line.endswith(b"\n")]
    return [(run_id, int(head), body) for run_id, head, body in words]


async def check(journal: Journal, acknowledged: list[tuple[str, int, str]]) -> None:
    """Everything acknowledged is there, whole, gapless, and the rows say what the records say."""
    entries = await read_all(journal)
    assert [entry.revision for entry in entries] == list(range(1, len(entries) + 1))
    at = {(entry.run_id, entry.revision): entry.record.body.decode() for entry in entries}
    for run_id, head, body in acknowledged:
        assert [at[run_id, head - back] for back in range(3)] == [body] * 3
    for run in await journal.open_runs():
        run_id = run.run.run_id
        told = [entry for entry in entries if entry.run_id == run_id and entry.record.kind == "told"]
        groups = [told[n : n + 3] for n in range(0, len(told), 3)]
        assert all(len(group) == 3 and len({e.record.body for e in group}) == 1 for group in groups)
        rows = (await journal.rows(run_id, RowKind.TASK)).rows
        assert [(s.revision, s.row.body) for s in rows] == [(e.revision, e.record.body) for e in told[-1:]]
        assert run.head == max(entry.revision for entry in entries if entry.run_id == run_id)


async def test_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there(tmp_path: Path) -> None:
    acknowledged: list[tuple[str, int, str]] = []
    for lines in (1, 200, 450):
        acknowledged += await burst_and_kill(tmp_path, lines)
        async with sqlite(tmp_path)() as journal:
            await check(journal, acknowledged)
            assert len(acknowledged) >= lines


async def test_a_second_lead_refuses_until_the_first_is_dead(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    await child.stdout.readline()
    with pytest.raises(ExceptionGroup) as refused:
        await sqlite(tmp_path)().__aenter__()
    (error,) = refused.value.exceptions
    assert isinstance(error, StoreFailed)
    by = f"another lead (process {child.pid})"
    assert str(error) == f"data folder {tmp_path} is in use by {by}; stop it, or give another folder"
    child.kill()
    await child.communicate()
    async with sqlite(tmp_path)() as journal:
        assert (await journal.bounds()).head > 0
