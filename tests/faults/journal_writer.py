"""A process that appends to a journal as fast as it can, and says what was acknowledged.

Each of its runs appends groups of three records that belong together, with a row that tells the same;
one line goes out for each answer, and none before it.
"""

import asyncio
import sys
from pathlib import Path

from services.lead.journal import NewRun, Record, Row, RowKind
from services.lead.journal.sqlite import sqlite_journal

RUNS = 8


async def write(folder: Path) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        sqlite_journal(folder, tasks, new_log_id=lambda: "log") as journal,
    ):
        opened = {run.run.run_id: run for run in await journal.open_runs()}
        generation = (await journal.bounds()).head

        async def burst(run_id: str) -> None:
            if run_id in opened:
                head = opened[run_id].head
            else:
                new = NewRun(run_id, "shop", run_id, "")
                head = (await journal.create(new, [Record("created", b"")], [])).last
            for n in range(1_000_000):
                body = f"{generation}.{n}".encode()
                records = [Record("told", body, task_id="t")] * 3
                rows = [Row(RowKind.TASK, "t", 0, body)]
                head = (await journal.append(run_id, records, rows, expected_head=head, term=1)).last
                print(run_id, head, body.decode(), flush=True)

        async with asyncio.TaskGroup() as bursts:
            for n in range(RUNS):
                bursts.create_task(burst(f"r{n}"))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
