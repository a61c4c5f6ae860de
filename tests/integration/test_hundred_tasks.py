"""A hundred tasks on real processes, followed by twenty watchers: one run, looked at from all sides."""

import asyncio
import json
import os
import re
import sqlite3
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from websockets.asyncio.client import ClientConnection, connect

from codeframe.client import Client
from codeframe.v1 import lead_pb2, plan_pb2, state_pb2, status_pb2, status_pb2_grpc
from gateway.frames import FRAMES
from services.runtime.channel import open_channel
from tests.fleet import ROLES, Fleet, script, serve_fleet, task, watched_over
from tests.process_logs import longest_lags, written_since

pytestmark = pytest.mark.timeout(900)

TASKS = tuple((f"task-{number:02}", ROLES[number % len(ROLES)]) for number in range(100))
STREAMS, PAGES, SOCKETS = 12, 5, 2  # readers by gRPC, SSE and WebSocket; the twentieth watcher does not read
FINAL = {state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED, state_pb2.RUN_STATE_CANCELLED}

SILENCE = 60.0
"""Seconds without an end of an attempt after which the run hangs."""

Threads = dict[str, dict[int, str]]
"""By server and thread id, the threads' names."""

OF_GRPC = {"event_engine", "grpc_global_tim", "lifeguard"}
"""Names of threads that no Python code runs on."""
ONCE_OR_TWICE = 10
"""Less than a third of the tasks of a role: what a library does now and then is on the path of none."""
MAY_WORK = {"lead": 3, "gateway": 2} | dict.fromkeys(ROLES, 2)
"""How many others may do something: the loop's, the one that polls for grpc.aio, and the journal's."""


@dataclass(slots=True)
class Health:
    """How often each server said that it serves, and the longest that one took to, in seconds."""

    answers: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was seen of the run. `journal` and what readers got are revisions, up to the run's end."""

    run: lead_pb2.Run
    journal: list[int]
    public: list[int]
    framed: list[int]
    readers: dict[str, list[int]]
    never_read: list[int]
    before: Threads
    meanwhile: list[Threads]
    after: Threads
    worked: dict[str, dict[int, int]]
    health: Health
    lags: dict[str, float]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return asyncio.run(record(tmp_path_factory.mktemp("fleet")))


async def record(folder: Path) -> Recorded:
    async with (
        serve_fleet(folder, [script(*one) for one in TASKS]) as fleet,
        watched_over(fleet, SILENCE) as goes_on,
    ):
        async with Client(fleet.addresses["lead"]) as client:

            def look() -> None:
                goes_on()
                meanwhile.append(threads(fleet))

            await conduct(client, fleet, "warm-up", TASKS[: len(ROLES)], goes_on)
            async with watching(fleet) as (readers, stalled), checking_health(fleet) as health:
                before, meanwhile = threads(fleet), list[Threads]()
                waits = {name: waits_of(pid) for name, pid in fleet.servers.items()}
                run = await conduct(client, fleet, "many tasks", TASKS, look)
                read = {name: await reader for name, reader in readers.items()}
                after = threads(fleet)
                worked = {name: worked_since(waits[name], pid) for name, pid in fleet.servers.items()}
                never_read = await read_to_the_end(stalled)
        end = read["stream 0"][-1]
        return Recorded(
            run=run,
            journal=revisions(fleet, "true", end),
            public=revisions(fleet, "public", end),
            framed=revisions(fleet, f"public and kind in ({', '.join(map(repr, FRAMES))})", end),
            readers=read,
            never_read=never_read,
            before=before,
            meanwhile=meanwhile,
            after=after,
            worked=worked,
            health=health,
            lags=longest_lags(written_since(folder, {})),
        )


async def conduct(
    client: Client, fleet: Fleet, title: str, tasks: tuple[tuple[str, str], ...], look: Callable[[], None]
) -> lead_pb2.Run:
    """Have tasks done; the run, once it has ended. At each task's end, `look`."""
    plan = plan_pb2.Plan(title=title, tasks=[task(*one) for one in tasks])
    limits = lead_pb2.RunLimits(concurrency=12)
    made = await client.create_run(plan, str(fleet.project), limits=limits)
    async with client.watch(run_ids=[made.run_id], kinds=["attempt_ended", "run_status_changed"]) as watch:
        async for _ in watch:
            look()
    return await client.get_run(made.run_id)


def threads(fleet: Fleet) -> Threads:
    return {name: threads_of(pid) for name, pid in fleet.servers.items()}


def threads_of(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/task")
    return {int(each): (folder / each / "comm").read_text().strip() for each in os.listdir(folder)}


def waits_of(pid: int) -> dict[int, int]:
    """How often each thread of a process that Python made has waited: one that is idle does so no more."""
    return {
        thread: int(re.findall(r"^voluntary_ctxt_switches:\t(\d+)$", status, re.MULTILINE)[0])
        for thread, name in threads_of(pid).items()
        if name not in OF_GRPC and (status := Path(f"/proc/{pid}/task/{thread}/status").read_text())
    }


def worked_since(before: dict[int, int], pid: int) -> dict[int, int]:
    """The threads that Python made and that worked since, by how often each did."""
    times = {thread: waits - before.get(thread, 0) for thread, waits in waits_of(pid).items()}
    return {thread: each for thread, each in times.items() if each > ONCE_OR_TWICE}


def revisions(fleet: Fleet, which: str, end: int) -> list[int]:
    """What the journal's own file holds, up to a revision."""
    place = f"file:{fleet.folder}/lead/journal.sqlite3?mode=ro"
    select = f"select revision from records where {which} and revision <= ? order by revision"
    with closing(sqlite3.connect(place, uri=True)) as journal:
        return [revision for (revision,) in journal.execute(select, [end])]


@asynccontextmanager
async def watching(
    fleet: Fleet,
) -> AsyncIterator[tuple[dict[str, asyncio.Task[list[int]]], AsyncIterator[status_pb2.JournaledEvent]]]:
    """Twenty watchers of all events from the oldest on: those that read, by name, and one that does not."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://{fleet.addresses['gateway']}", trust_env=False, timeout=60)
        )
        calls = []
        for _ in range(STREAMS + 1):
            channel = await stack.enter_async_context(open_channel(fleet.addresses["lead"]))
            calls.append(
                status_pb2_grpc.StatusServiceStub(channel).WatchEvents(
                    status_pb2.WatchEventsRequest(cursor="")
                )
            )
            stack.callback(calls[-1].cancel)
            await calls[-1].wait_for_connection()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        readers = {
            f"stream {number}": group.create_task(read_to_the_end(streamed(call)))
            for number, call in enumerate(calls[1:])
        } | {f"page {number}": group.create_task(read_to_the_end(served(http))) for number in range(PAGES)}
        for number in range(SOCKETS):
            place = f"ws://{fleet.addresses['gateway']}/ws?cursor="
            socket = await stack.enter_async_context(connect(place, proxy=None))
            readers[f"socket {number}"] = group.create_task(read_frames(socket))
        yield readers, streamed(calls[0])


async def streamed(
    call: AsyncIterable[status_pb2.WatchEventsResponse],
) -> AsyncIterator[status_pb2.JournaledEvent]:
    """What WatchEvents sends."""
    async for response in call:
        for event in response.events:
            yield event


async def served(http: httpx2.AsyncClient) -> AsyncIterator[status_pb2.JournaledEvent]:
    """What the gateway sends as server-sent events; of most, the revision alone."""
    async with http.stream("GET", "/v1/events", params={"cursor": ""}) as response:
        kind = cursor = ""
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                cursor = value
            elif name == "event":
                kind = value
            elif name == "data" and kind == "run_status_changed":
                yield json_format.Parse(value, status_pb2.JournaledEvent())
            elif name == "data" and kind != "bookmark":
                yield status_pb2.JournaledEvent(revision=int(cursor.rpartition(".")[2]), cursor=cursor)


async def read_to_the_end(events: AsyncIterator[status_pb2.JournaledEvent]) -> list[int]:
    """The revisions of events, up to the end of the second run."""
    seen: list[int] = []
    runs: set[str] = set()
    async for event in events:
        seen.append(event.revision)
        if event.event.run_status_changed.status in FINAL:
            runs.add(event.event.run_id)
        if len(runs) == 2:
            return seen
    raise AssertionError(f"the events ended after {len(seen)}")


async def read_frames(socket: ClientConnection) -> list[int]:
    """The revisions of the frames, up to the last one of the second run: all of its tasks are done."""
    seen: list[int] = []
    async for text in socket:
        told = json.loads(text)
        seen.append(int(told["cursor"].rpartition(".")[2]))
        if (told["type"], told.get("completed")) == ("progress_update", len(TASKS)):
            return seen
    raise AssertionError(f"the frames ended after {len(seen)}")


@asynccontextmanager
async def checking_health(fleet: Fleet) -> AsyncIterator[Health]:
    """Ask every gRPC server again and again, and note its answers."""
    health, loop = Health(), asyncio.get_running_loop()

    async def ask(name: str) -> None:
        async with open_channel(fleet.addresses[name]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while True:
                asked = loop.time()
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                health.answers[name] = health.answers.get(name, 0) + 1
                health.slowest = max(health.slowest, loop.time() - asked)
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(name)) for name in ("lead", *ROLES)]
        yield health
        for each in asking:
            each.cancel()


def test_all_of_a_hundred_tasks_are_done(recorded: Recorded) -> None:
    assert (recorded.run.counts.total, recorded.run.counts.completed) == (100, 100), recorded.run


def test_the_threads_of_each_process_stay_the_same(recorded: Recorded) -> None:
    assert len(recorded.meanwhile) > 100
    for look in (*recorded.meanwhile, recorded.after):
        assert look == recorded.before


def test_no_thread_works_but_the_loops_grpcs_and_the_journals(recorded: Recorded) -> None:
    """A library's idle pool thread could be given work, and the set of threads would stay the same."""
    assert {name: len(worked) <= MAY_WORK[name] for name, worked in recorded.worked.items()} == dict.fromkeys(
        MAY_WORK, True
    ), recorded.worked


@pytest.mark.parametrize(
    "reader", [*(f"stream {n}" for n in range(STREAMS)), *(f"page {n}" for n in range(PAGES))]
)
def test_each_watcher_gets_every_event_once_and_in_order(recorded: Recorded, reader: str) -> None:
    assert len(recorded.public) > 1500
    assert recorded.readers[reader] == recorded.public


@pytest.mark.parametrize("reader", [f"socket {n}" for n in range(SOCKETS)])
def test_each_socket_gets_every_frame_once_and_in_order(recorded: Recorded, reader: str) -> None:
    seen = recorded.readers[reader]
    assert len(seen) > 1000
    assert seen == [revision for revision in recorded.framed if revision <= seen[-1]]


def test_a_watcher_that_does_not_read_costs_nobody_and_misses_nothing(recorded: Recorded) -> None:
    assert recorded.never_read == recorded.public


def test_the_journal_has_no_gaps(recorded: Recorded) -> None:
    assert recorded.journal == list(range(1, recorded.journal[-1] + 1))


def test_a_health_check_answers_throughout(recorded: Recorded) -> None:
    assert recorded.health.answers.keys() == {"lead", *ROLES}
    assert all(answers > 20 for answers in recorded.health.answers.values())
    assert recorded.health.slowest < 5, "cores are shared; what blocks a loop is told below"


def test_no_loop_was_held_up(recorded: Recorded) -> None:
    assert all(seconds < 1 for seconds in recorded.lags.values()), recorded.lags
