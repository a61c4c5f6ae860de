"""A watch: once each, in order, across connections that drop."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from codeframe.client import Client, CodeframeError, SnapshotStarted, Watch, WatchBroken, WatchItem
from codeframe.v1 import events_pb2, lead_pb2, status_pb2
from tests.canned_lead import QUICK, CannedLead, serve

_numbers = itertools.count(1)


def activity(run_id: str = "r", text: str = "") -> events_pb2.Event:
    update = events_pb2.ActivityUpdate(message=text or str(next(_numbers)))
    return events_pb2.Event(run_id=run_id, activity_update=update)


async def take(watch: Watch, count: int) -> list[WatchItem]:
    """The next items, less what is told of broken connections."""
    items: list[WatchItem] = []
    while len(items) < count:
        item = await anext(watch)
        if not isinstance(item, WatchBroken):
            items.append(item)
    return items


def revisions(items: Sequence[WatchItem]) -> list[int]:
    return [item.revision for item in items if isinstance(item, status_pb2.JournaledEvent)]


async def test_a_snapshot_and_then_the_events_after_it(lead: CannedLead, client: Client) -> None:
    lead.runs.append(lead_pb2.Run(run_id="r"))
    lead.tasks.append(lead_pb2.Task(run_id="r", task_id="t"))
    await lead.tell(activity(), activity())
    async with client.watch() as watch:
        started, run, task, bookmark = await take(watch, 4)
        assert isinstance(started, SnapshotStarted)
        assert isinstance(run, lead_pb2.Run)
        assert isinstance(task, lead_pb2.Task)
        assert isinstance(bookmark, status_pb2.Bookmark)
        assert bookmark.snapshot_end
        await lead.tell(activity())
        assert revisions(await take(watch, 1)) == [3]


async def test_it_goes_on_after_its_last_cursor(lead: CannedLead, client: Client) -> None:
    async with client.watch(cursor="") as watch:
        seen: list[int] = []
        for round_ in range(5):
            await lead.tell(activity(), activity(), activity())
            seen += revisions(await take(watch, 3))
            await lead.watched(1)
            await lead.break_watches()
            assert len(seen) == 3 * (round_ + 1)
        await lead.tell(activity())
        seen += revisions(await take(watch, 1))
    assert seen == list(range(1, 17))
    cursors = [request.cursor for request in lead.asked("WatchEvents")]
    assert cursors == ["", "log.3", "log.6", "log.9", "log.12", "log.15"]


async def test_a_lead_that_was_away_is_told_of_and_resumed(lead: CannedLead, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    async with Client(address, policy=QUICK) as client, client.watch(cursor="") as watch:
        async with serve(lead, unused_tcp_port):
            await lead.tell(activity())
            assert revisions(await take(watch, 1)) == [1]
        broken = await anext(watch)
        assert isinstance(broken, WatchBroken)
        assert broken.failures == 1
        assert broken.error.reason == ""
        again = await anext(watch)
        assert isinstance(again, WatchBroken)
        assert again.failures == 2
        async with serve(lead, unused_tcp_port):
            await lead.tell(activity())
            assert revisions(await take(watch, 1)) == [2]


@pytest.mark.parametrize("cursor", ["other.5", "log.1"])
async def test_a_cursor_that_is_not_served_gives_a_snapshot(
    lead: CannedLead, client: Client, cursor: str
) -> None:
    lead.oldest = 2
    lead.runs.append(lead_pb2.Run(run_id="r"))
    await lead.tell(activity(), activity(), activity())
    async with client.watch(cursor=cursor) as watch:
        started, run, bookmark = await take(watch, 3)
        assert isinstance(started, SnapshotStarted)
        assert isinstance(run, lead_pb2.Run)
        await lead.tell(activity())
        assert revisions(await take(watch, 1)) == [4]
        await lead.break_watches()
        await lead.tell(activity())
        assert revisions(await take(watch, 1)) == [5]
    assert isinstance(bookmark, status_pb2.Bookmark)


async def test_a_watch_of_runs_ends_with_them(lead: CannedLead, client: Client) -> None:
    lead.runs.append(lead_pb2.Run(run_id="r"))
    async with client.watch(run_ids=["r"], cursor="") as watch:
        await lead.tell(activity())
        assert revisions(await take(watch, 1)) == [1]
        await lead.tell(activity(), activity("other"), ended=lead.runs[0])
        assert revisions([item async for item in watch]) == [2]


async def test_what_cannot_be_cured_is_raised(lead: CannedLead, client: Client) -> None:
    async with client.watch(run_ids=["a", "a"]) as watch:
        with pytest.raises(CodeframeError) as raised:
            await anext(watch)
    assert raised.value.reason == "ERROR_REASON_INVALID_REQUEST"
    assert raised.value.violations[0].field == "run_ids"


async def test_closing_cancels_the_call(lead: CannedLead, client: Client) -> None:
    await lead.tell(activity())
    async with client.watch(cursor="") as watch:
        await take(watch, 1)
        await lead.watched(1)
    await lead.watched(0)


async def test_cancelling_the_reader_cancels_the_call(lead: CannedLead, client: Client) -> None:
    async def read() -> None:
        async with client.watch(cursor="") as watch:
            async for _ in watch:
                pass

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read())
        await lead.watched(1)
        reader.cancel()
    await lead.watched(0)


async def test_an_unknown_payload_is_skipped_and_its_revision_counts(
    lead: CannedLead, client: Client
) -> None:
    await lead.tell(activity(), events_pb2.Event(run_id="r"))
    async with client.watch(cursor="") as watch:
        assert revisions(await take(watch, 1)) == [1]
        await lead.watched(1)
        await lead.break_watches()
        await lead.tell(activity())
        assert revisions(await take(watch, 1)) == [3]
    assert lead.asked("WatchEvents")[1].cursor == "log.2"


async def test_batches_come_whole(lead: CannedLead, client: Client) -> None:
    await lead.tell(*(activity() for _ in range(10)))
    async with client.watch(cursor="") as watch:
        assert revisions(await anext(watch.batches())) == list(range(1, 11))
