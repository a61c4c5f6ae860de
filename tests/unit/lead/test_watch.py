"""WatchEvents on a real server: where it starts, what it leaves out, how it ends."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import events_pb2, lead_pb2, status_pb2
from tests.unit.lead.served import all_of, event, private, revisions, served, task_row, watching

SNAPSHOT = status_pb2.SnapshotStart()


async def refusal(address: str, **request: Any) -> CodeframeError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await all_of(address, **request)
    return from_rpc_error(refused.value)


async def until(messages: Any, revision: int) -> list[status_pb2.WatchEventsResponse]:
    """The messages up to an event or a bookmark of that revision."""
    seen: list[status_pb2.WatchEventsResponse] = []
    async for message in messages:
        seen.append(message)
        last = message.events[-1].revision if message.events else message.bookmark.revision
        if last >= revision:
            return seen
    raise AssertionError(f"the watch ended at {seen}")


async def test_from_the_oldest_every_event_comes_as_it_was_stored(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        # A field that this version does not know, as a later lead would write it.
        newer = event("a", activity_update=events_pb2.ActivityUpdate(message="é" * 300))
        newer = type(newer)(newer.kind, newer.body + b"\xfa\x7f\x03new")
        await lead.tell("a", [private(), newer])
        async with watching(lead.address, cursor="") as messages:
            seen = await until(messages, 3)
            events = [each for message in seen for each in message.events]
            assert [(each.revision, each.cursor) for each in events] == [(1, "log.1"), (3, "log.3")]
            assert events[1].event.SerializeToString() == newer.body
            assert events[1].event.activity_update.message == "é" * 300
            await lead.fleet("w/backend")
            (live,) = (await until(messages, 4))[-1].events
            assert live.event.agent_created.agent_id == "w/backend"
            assert live.event.run_id == "fleet"


async def test_a_cursor_goes_on_after_what_was_seen(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        for progress in range(5):
            await lead.move("a", 0, progress)
        async with watching(lead.address, cursor="log.3") as messages:
            assert revisions(await until(messages, 6)) == [4, 5, 6]


async def test_a_snapshot_is_rows_then_a_bookmark_then_what_comes(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        lead.workers.append(lead_pb2.Worker(name="w", address="127.0.0.1:1"))
        for run_id in ("a", "b"):
            await lead.create(run_id, tasks=3)
        await lead.move("a", 1, 50)
        starts: list[dict[str, Any]] = [{}, {"snapshot": SNAPSHOT}]
        for place, start in enumerate(starts, 3):
            async with watching(lead.address, **start) as messages:
                seen = await until(messages, place)
                assert [w.name for message in seen for w in message.workers] == ["w"]
                runs = {(run.run_id, run.revision) for message in seen for run in message.runs}
                assert runs == {("a", 1), ("b", 2)}
                tasks = [task for message in seen for task in message.tasks]
                assert [(t.run_id, t.task_id, t.progress, t.revision) for t in tasks if t.run_id == "a"] == [
                    ("a", "t0", 0, 1),
                    ("a", "t1", 50, 3),
                    ("a", "t2", 0, 1),
                ]
                assert len(tasks) == 6
                assert revisions(seen) == []
                bookmark = seen[-1].bookmark
                assert (bookmark.revision, bookmark.cursor) == (place, f"log.{place}")
                assert bookmark.snapshot_end
                assert not any(message.HasField("bookmark") for message in seen[:-1])
                await lead.move("b", 0, 10)
                assert revisions(await until(messages, lead.heads["b"])) == [lead.heads["b"]]


async def test_what_happens_while_a_snapshot_is_sent_comes_after_it(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a", tasks=100)
        big = "x" * 60_000  # A hundred of them are more than buffers on the way hold.
        rows = [task_row("a", n, title=big) for n in range(100)]
        await lead.tell("a", [private()], rows)
        async with watching(lead.address, run_ids=["a"]) as messages:
            async for message in messages:
                if message.tasks:
                    break
            await lead.move("a", 0, 77)
            seen = await until(messages, 3)
        assert [message.bookmark.revision for message in seen if message.bookmark.snapshot_end] == [2]
        assert [each.event.task_status_changed.progress for each in seen[-1].events] == [77]


async def test_a_snapshot_has_what_the_filter_leaves(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        lead.workers.append(lead_pb2.Worker(name="w"))
        await lead.create("a", "shop", tasks=600)
        await lead.create("b", "bank", tasks=1)
        for request, runs, tasks, workers in (
            ({}, {"a", "b"}, 601, 1),
            ({"project": "shop"}, {"a"}, 600, 1),
            ({"project": "none"}, set(), 0, 1),
            ({"run_ids": ["b"]}, {"b"}, 1, 0),
            ({"run_ids": ["b", "fleet"]}, {"b"}, 1, 1),
            ({"run_ids": ["a"], "task_ids": ["t7", "t599"]}, {"a"}, 2, 0),
        ):
            async with watching(lead.address, **request) as messages:
                seen = await until(messages, 2)
            assert {run.run_id for message in seen for run in message.runs} == runs
            assert sum(len(message.tasks) for message in seen) == tasks
            assert sum(len(message.workers) for message in seen) == workers
            assert all(message.ByteSize() < 1024 * 1024 for message in seen)


async def test_filters_leave_what_they_say(tmp_path: Path) -> None:
    async with served(tmp_path, bookmark_every=0.01) as lead:
        await lead.create("a", "shop", tasks=2)  # 1
        await lead.create("b", "bank")  # 2
        await lead.fleet("w/test")  # 3
        await lead.move("a", 0, 10)  # 4
        await lead.move("a", 1, 10)  # 5
        await lead.tell("b", [private()])  # 6
        for request, expected in (
            ({}, [1, 2, 3, 4, 5]),
            ({"project": "shop"}, [1, 3, 4, 5]),
            ({"project": "bank"}, [2, 3]),
            ({"run_ids": ["a"]}, [1, 4, 5]),
            ({"run_ids": ["a", "b"]}, [1, 2, 4, 5]),
            ({"run_ids": ["fleet"]}, [3]),
            ({"run_ids": ["a"], "task_ids": ["t1"]}, [5]),
            ({"kinds": ["task_status_changed", "agent_created"]}, [3, 4, 5]),
            ({"project": "shop", "kinds": ["run_status_changed"]}, [1]),
        ):
            async with watching(lead.address, cursor="", **request) as messages:
                # The bookmark at the head says that nothing more matches.
                assert revisions(await until(messages, 6)) == expected, request


async def test_a_bookmark_covers_what_is_not_sent_and_comes_only_on_change(tmp_path: Path) -> None:
    async with served(tmp_path, bookmark_every=0.05) as lead:
        await lead.create("a")
        async with watching(lead.address, run_ids=["a"], cursor="log.1") as messages:
            await lead.tell("a", [private(), private()])
            (message,) = await until(messages, 3)
            assert (message.bookmark.cursor, message.bookmark.snapshot_end) == ("log.3", False)
            async with asyncio.TaskGroup() as tasks:
                coming = tasks.create_task(until(messages, 4))
                # Six times as long as a bookmark may take: none comes without change.
                assert not (await asyncio.wait({coming}, timeout=0.3))[0]
                await lead.move("a", 0, 10)
            assert revisions(coming.result()) == [4]
            assert len(coming.result()) == 1


async def test_bookmarks_are_rare_while_much_happens_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        await lead.create("b")
        async with watching(lead.address, run_ids=["a"], cursor="") as messages:
            await until(messages, 1)
            for progress in range(100):
                await lead.move("b", 0, progress)
            await lead.move("a", 0, 1)
            seen = await until(messages, lead.heads["a"])
            assert [message.HasField("bookmark") for message in seen] == [False]


async def test_a_watch_of_runs_closes_once_all_are_over_and_sent(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        await lead.create("b")
        async with asyncio.TaskGroup() as tasks:
            every = tasks.create_task(all_of(lead.address, run_ids=["a", "b"], cursor=""))
            only = tasks.create_task(
                all_of(lead.address, run_ids=["a", "b"], kinds=["task_assigned"], cursor="")
            )
            await lead.move("a", 0, 100, final=True)
            await lead.end("a")
            await lead.move("b", 0, 100, final=True)
            await lead.end("b")
        assert revisions(await every) == [1, 2, 3, 4, 5, 6]
        assert revisions(await only) == []
        # What is over is sent whole, and closed at once.
        assert revisions(await all_of(lead.address, run_ids=["a"], cursor="")) == [1, 3, 4]
        assert await all_of(lead.address, run_ids=["a"], cursor="log.6") == []
        snapshot = await all_of(lead.address, run_ids=["a", "b"])
        assert snapshot[-1].bookmark.snapshot_end
        assert {run.revision for message in snapshot for run in message.runs} == {4, 6}


async def test_the_fleet_beside_a_run_is_told_and_holds_no_watch_open(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        async with watching(lead.address, run_ids=["fleet"]) as messages:  # of which nothing is told yet
            await until(messages, 0)
            await lead.create("a")
            await lead.fleet("w/test")
            assert [each.event.run_id for each in (await until(messages, 2))[-1].events] == ["fleet"]
        async with watching(lead.address, run_ids=["a", "fleet"], cursor="") as messages:
            await until(messages, 2)
            await lead.end("a")
            assert [each.revision async for message in messages for each in message.events] == [3]


async def test_a_watch_of_tasks_closes_once_those_are_final(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a", tasks=3)
        async with asyncio.TaskGroup() as tasks:
            two = tasks.create_task(all_of(lead.address, run_ids=["a"], task_ids=["t0", "t2"], cursor=""))
            for task in (2, 1, 0):
                await lead.move("a", task, 100, final=True)
        assert revisions(await two) == [2, 4]


async def test_a_watch_that_names_nothing_goes_on_when_runs_end(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        async with watching(lead.address, cursor="") as messages:
            await lead.end("a")
            await until(messages, 2)
            await lead.create("b")
            assert revisions(await until(messages, 3)) == [3]


async def test_a_place_that_cannot_be_gone_on_from_asks_for_a_snapshot(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        for run_id in ("old", "new"):
            await lead.create(run_id)
        await lead.end("old")
        await lead.journal.trim(3)
        await lead.move("new", 0, 10)
        for cursor, reason in (
            ("log.2", "CURSOR_EXPIRED"),
            ("log.0", "CURSOR_EXPIRED"),
            ("log.5", "CURSOR_AHEAD"),
            ("log.999999999999999999", "CURSOR_AHEAD"),
            ("other.3", "LOG_CHANGED"),
        ):
            error = await refusal(lead.address, cursor=cursor)
            assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, f"ERROR_REASON_{reason}")
            assert "snapshot" in error.message
        expired = await refusal(lead.address, cursor="log.1")
        assert "revision 3" in expired.message
        assert expired.metadata == {"oldest_revision": "3"}
        for cursor in ("log.3", ""):
            async with watching(lead.address, cursor=cursor) as messages:
                assert revisions(await until(messages, 4)) == [4]


async def test_a_slow_reader_whose_place_is_trimmed_is_told(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        async with watching(lead.address, cursor="") as messages:
            await until(messages, 1)
            big = event("a", activity_update=events_pb2.ActivityUpdate(message="x" * 60_000))
            for _ in range(300):  # 18 MB: more than buffers on the way hold.
                await lead.tell("a", [big])
            await lead.journal.trim(299)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await until(messages, 301)
        assert from_rpc_error(told.value).reason == "ERROR_REASON_CURSOR_EXPIRED"


@pytest.mark.parametrize(
    "cursor", ["log", "log.", ".3", "log.x", "log.-1", "log.1.", "log.٣", "log." + "9" * 19]
)
async def test_what_is_no_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    async with served(tmp_path) as lead:
        error = await refusal(lead.address, cursor=cursor)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_CURSOR")
    assert [violation.field for violation in error.violations] == ["cursor"]


async def test_a_bad_request_names_its_field(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a", "shop")
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"kinds": ["task_assigned", "task_asigned"]}, "kinds[1]"),
            ({"task_ids": ["t0"]}, "task_ids"),
            ({"run_ids": ["a", "b"], "task_ids": ["t0"]}, "task_ids"),
            ({"run_ids": ["a", "a"]}, "run_ids"),
        ]
        for request, field in wrong:
            error = await refusal(lead.address, **request)
            assert error.reason == "ERROR_REASON_INVALID_REQUEST"
            assert [violation.field for violation in error.violations] == [field]
        missing: list[tuple[dict[str, Any], str, str]] = [
            ({"run_ids": ["a", "nobody"]}, "RUN_NOT_FOUND", "nobody"),
            ({"run_ids": ["a"], "project": "bank"}, "RUN_NOT_FOUND", "a"),
            ({"run_ids": ["a"], "task_ids": ["t0", "t9"]}, "TASK_NOT_FOUND", "t9"),
            ({"run_ids": ["fleet"], "task_ids": ["t0"]}, "TASK_NOT_FOUND", "t0"),
        ]
        for request, reason, named in missing:
            error = await refusal(lead.address, **request)
            assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, f"ERROR_REASON_{reason}")
            assert named in error.message


async def test_a_lead_that_stops_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as lead:
        await lead.create("a")
        async with watching(lead.address, cursor="") as messages:
            await until(messages, 1)
            lead.journal.close()  # type: ignore[attr-defined]
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await anext(messages)
    assert from_rpc_error(ended.value).reason == "ERROR_REASON_UNAVAILABLE"
