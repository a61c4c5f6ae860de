"""Watches whose connection is cut, that never read, or that start in the middle: nothing lost or repeated."""

import asyncio
import random
from pathlib import Path

import grpc
import grpc.aio

from tests.cuts import Cuts
from tests.unit.lead.served import Served, revisions, served, watching

RUNS, MOVES, TASKS = 4, 60, 5


async def write(lead: Served, run_id: str) -> None:
    """A run that moves its tasks, and ends."""
    await lead.create(run_id, tasks=TASKS)
    for progress in range(MOVES):
        await lead.move(run_id, progress % TASKS, progress)
    await lead.end(run_id)


async def test_a_watch_that_is_cut_again_and_again_misses_nothing(tmp_path: Path) -> None:
    total = RUNS * (MOVES + 2)
    async with served(tmp_path) as lead, Cuts(lead.address).listening() as proxy:
        cursor, seen, codes = "", list[int](), set[grpc.StatusCode]()
        cut = asyncio.Event()

        async def read() -> None:
            nonlocal cursor
            while len(seen) < total:
                try:
                    async with watching(proxy.address, cursor=cursor) as messages:
                        async for message in messages:
                            seen.extend(each.revision for each in message.events)
                            cursor = message.events[-1].cursor
                            proxy.cut()
                            cut.set()
                            if len(seen) >= total:
                                break
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())

        async def write_on(run_id: str) -> None:
            await lead.create(run_id, tasks=TASKS)
            for progress in range(MOVES):
                await lead.move(run_id, progress % TASKS, progress)
                if progress % 10 == 9:
                    cut.clear()
                    await cut.wait()
            await lead.end(run_id)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            for run in range(RUNS):
                tasks.create_task(write_on(f"r{run}"))
        assert proxy.cuts >= MOVES // 10
        assert codes == {grpc.StatusCode.UNAVAILABLE}
    assert seen == list(range(1, total + 1))


async def test_twenty_watches_get_every_event_once_though_one_never_reads(tmp_path: Path) -> None:
    total = RUNS * (MOVES + 2)

    async def read(address: str) -> list[int]:
        seen: list[int] = []
        async with watching(address, cursor="") as messages:
            while len(seen) < total:
                seen += revisions([await anext(messages)])
        return seen

    async with served(tmp_path) as lead, watching(lead.address, cursor="") as never_read:
        async with asyncio.TaskGroup() as tasks:
            readers = [tasks.create_task(read(lead.address)) for _ in range(19)]
            for run in range(RUNS):
                tasks.create_task(write(lead, f"r{run}"))
        for reader in readers:
            assert reader.result() == list(range(1, total + 1))
        assert (await anext(never_read)).events[0].revision == 1


async def test_a_snapshot_with_what_follows_is_where_things_stand(tmp_path: Path) -> None:
    """Watches start at any moment while tasks move: rows and the events above them add up."""

    async def follow(lead: Served, run_id: str) -> dict[str, int]:
        progress, at = dict[str, int](), dict[str, int]()
        bookmark = -1
        async with watching(lead.address, run_ids=[run_id]) as messages:
            async for message in messages:
                for task in message.tasks:
                    progress[task.task_id], at[task.task_id] = task.progress, task.revision
                for each in message.events:
                    assert each.revision > bookmark >= 0
                    told = each.event.task_status_changed
                    if told.task_id and each.revision > at[told.task_id]:
                        # Nothing between the row and this is missing: a task moves by TASKS each time.
                        assert told.progress in (progress[told.task_id] + TASKS, int(told.task_id[1:]))
                        progress[told.task_id], at[told.task_id] = told.progress, each.revision
                if message.bookmark.snapshot_end:
                    bookmark = message.bookmark.revision
        return progress

    async with served(tmp_path) as lead:
        chance = random.Random(7)
        async with asyncio.TaskGroup() as tasks:
            await lead.create("r", tasks=TASKS)
            watches = []
            for progress in range(MOVES * 2):
                await lead.move("r", progress % TASKS, progress)
                if chance.random() < 0.2:
                    watches.append(tasks.create_task(follow(lead, "r")))
            await lead.end("r")
        assert len(watches) > 10
        last = MOVES * 2 - TASKS
        for watch in watches:
            assert watch.result() == {f"t{n}": last + n for n in range(TASKS)}
