"""What is killed comes back: a lead, a worker, git. Nothing is done twice that was done once."""

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from codeframe.client import Client
from codeframe.v1 import budget_pb2, evidence_pb2, lead_pb2, lead_pb2_grpc, plan_pb2, state_pb2
from services.lead import records
from services.lead.journal import Appended, Journal, RowKind, StoreFailed
from services.lead.machine.private_records import Claimed
from services.lead.openings import Openings
from services.lead.runs import Runs
from services.lead.stage import Stage
from services.runtime.channel import open_channel
from tests.cuts import Cuts
from tests.eventually import eventually
from tests.git_project import branches, bytes_of, commit_files, files_at, git
from tests.integration.lead_stage import FINAL, House, Lead, make_house, task
from tests.ports import free_port
from tests.scripted_worker import ServedWorker
from tests.server_process import ServerProcess, start_server

COMPLETED = state_pb2.RUN_STATE_COMPLETED


@pytest.fixture
def house(tmp_path: Path) -> House:
    return make_house(tmp_path)


class LeadProcess:
    """`python -m services.lead`, started, killed and started again on one folder and port."""

    def __init__(self, house: House, *workers: ServedWorker | str) -> None:
        self.house = house
        self.workers = [each if isinstance(each, str) else each.address for each in workers]
        self.port = free_port()
        self.server: ServerProcess | None = None
        self.channel = open_channel(f"127.0.0.1:{self.port}")
        self.stub = lead_pb2_grpc.LeadServiceStub(self.channel)

    async def start(self) -> None:
        """Start it; it answers once this returns."""
        flags = [word for each in self.workers for word in ("--worker", each)]
        data = self.house.folder / "lead"
        self.server = await start_server("services.lead", data, *flags, port=self.port)
        await self.server.address()

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send it a signal, and wait for its end; its exit code."""
        assert self.server
        self.server.process.send_signal(number)
        return await self.server.process.wait()

    async def create(self, *tasks: object, **more: object) -> lead_pb2.Run:
        request = lead_pb2.CreateRunRequest(request_id="q", repository=str(self.house.project), **more)  # type: ignore[arg-type]
        request.plan.title = "a plan"
        request.plan.tasks.extend(tasks)  # type: ignore[arg-type]
        return (await self.stub.CreateRun(request, wait_for_ready=True)).run

    async def run(self, run_id: str) -> lead_pb2.Run:
        request = lead_pb2.GetRunRequest(run_id=run_id)
        return (await self.stub.GetRun(request, wait_for_ready=True)).run

    async def ended(self, run_id: str) -> lead_pb2.Run:
        """The run, once it has ended: then a watch of it ends."""
        async with Client(f"127.0.0.1:{self.port}") as client:
            async for _ in client.watch(run_ids=[run_id]):
                pass
            return await client.get_run(run_id)

    async def attempts(self, run_id: str) -> list[lead_pb2.Attempt]:
        request = lead_pb2.ListAttemptsRequest(run_id=run_id, page_size=500)
        return list((await self.stub.ListAttempts(request, wait_for_ready=True)).attempts)


@asynccontextmanager
async def lead_process(house: House, *workers: ServedWorker | str) -> AsyncIterator[LeadProcess]:
    lead = LeadProcess(house, *workers)
    await lead.start()
    try:
        yield lead
    finally:
        await lead.channel.close()
        if lead.server:
            await lead.server.stop(kill=True)


async def test_a_killed_lead_comes_back_and_joins_its_attempts(house: House) -> None:
    house.script.gate("a", "b")
    before = bytes_of(house.project)
    async with house.worker() as worker, lead_process(house, worker) as lead:
        run = await lead.create(task("a"), task("b"), task("c", "a", "b"))
        await house.script.until_running(f"{run.run_id}.a.1", f"{run.run_id}.b.1")
        await lead.kill()
        house.script.open("a")
        await eventually(lambda: f"{run.run_id}.a.1" in house.script.ended)
        await lead.start()
        assert (await lead.run(run.run_id)).state == state_pb2.RUN_STATE_RUNNING
        house.script.open("b")
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        started = [request.attempt_id for request in house.script.requests]
        assert len(started) == len(set(started)), "no attempt is started twice"
        assert all(each.number == 1 for each in await lead.attempts(run.run_id) if each.task_id)
        await eventually(lambda: not worker.attempts.unreleased)
    assert bytes_of(house.project) == before


async def test_a_lead_killed_at_any_moment_completes_and_pays_nothing_twice(house: House) -> None:
    chance = random.Random(7)
    async with house.worker(slots=3) as worker, lead_process(house, worker) as lead:
        run = await lead.create(*(task(name) for name in "abc"), task("d", "a", "b"), task("e", "c"))
        for _ in range(5):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            await lead.kill()
            await lead.start()
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        started = [request.attempt_id for request in house.script.requests]
        assert len(started) == len(set(started)), "no attempt is started twice"
        done = [each for each in await lead.attempts(run.run_id) if each.task_id]
        assert [each.number for each in done] == [1] * 5
        assert ended.usage[0].turns == 5
        assert {f"{name}.txt" for name in "abcde"} <= files_at(house.project, ended.head_commit)
        await eventually(lambda: not worker.attempts.unreleased)


def goal(house: House, *tasks: plan_pb2.PlannedTask) -> lead_pb2.CreateRunRequest:
    """A request with a goal, whose plan has these tasks."""
    plan = plan_pb2.Plan(title="What it takes", tasks=tasks)
    house.script.plans.append(json_format.MessageToJson(plan).encode())
    return lead_pb2.CreateRunRequest(request_id="q", repository=str(house.project), goal="Sell more.")


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_a_lead_killed_in_the_middle_of_planning_joins_the_attempt(
    house: House, meanwhile: bool
) -> None:
    house.script.gate("plan")
    asked = goal(house, task("a"), task("b", "a"))
    async with house.worker(roles=("backend", "planner")) as worker, lead_process(house, worker) as lead:
        run = (await lead.stub.CreateRun(asked)).run
        await house.script.until_waiting(f"{run.run_id}.plan-1")
        await lead.kill()
        if meanwhile:
            house.script.open("plan")
            await eventually(lambda: f"{run.run_id}.plan-1" in house.script.ended)
        await lead.start()
        house.script.open("plan")
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.counts.completed) == (COMPLETED, 2), ended.failure
        started = [request.attempt_id for request in house.script.requests]
        assert len(started) == len(set(started)), "no attempt is started twice"
        assert ended.usage[0].turns == 3


async def test_planning_that_is_lost_with_its_worker_is_done_again(house: House) -> None:
    port = free_port()
    house.script.gate("plan")
    asked = goal(house, task("a"))
    async with house.lead(f"127.0.0.1:{port}") as lead:
        async with house.worker(port=port, roles=("backend", "planner")):
            run = (await lead.stub.CreateRun(asked)).run
            await house.script.until_waiting(f"{run.run_id}.plan-1")
        house.script.open("plan")
        async with house.worker(port=port, roles=("backend", "planner")):
            ended = await lead.ended(run.run_id)
            assert ended.state == COMPLETED, ended.failure
            assert [each.outcome for each in await lead.attempts(run.run_id)][:2] == [
                evidence_pb2.OUTCOME_LOST,
                evidence_pb2.OUTCOME_SUCCEEDED,
            ]


async def until_claimed(lead: Lead, run_id: str, term: int) -> None:
    """Return once the run is owned under that term."""
    while True:
        revision = (await lead.journal.bounds()).head
        head = await lead.journal.run(run_id)
        assert head is not None
        if head.term == term:
            return
        await lead.journal.changed(revision)


async def test_each_start_takes_its_runs_over_under_a_higher_term(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker:
        async with house.lead(worker) as lead:
            run = await lead.create(task("a"))
            await house.script.until_running(f"{run.run_id}.a.1")
        for term in (2, 3):
            async with house.lead(worker) as lead:
                await until_claimed(lead, run.run_id, term)
        house.script.open("a")
        async with house.lead(worker) as lead:
            ended = await lead.ended(run.run_id)
            assert ended.state == COMPLETED, ended.failure
            stored = [entry.record for entry in (await lead.journal.run_entries(run.run_id)).entries]
            told = [event for event, _ in filter(None, map(records.event, stored))]
            assert [each.term for each in told if isinstance(each, Claimed)] == [2, 3, 4]
            row = await lead.journal.row(run.run_id, RowKind.RUN, run.run_id)
            assert row is not None
            assert records.load(row.row.body, (), ()).core == records.folded(stored).core
        assert len(house.script.requests) == 2, "the base's verification and a, once each"


def other_runs(house: House, stage: Stage) -> Runs:
    """What another lead on the same journal would conduct."""
    return Runs(stage, Openings(house.folder / "other", stage.journal, stage.integrator_of), owner="other")


async def test_a_run_that_another_lead_takes_over_is_let_go_and_its_attempts_go_on(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        other = asyncio.create_task(other_runs(house, lead.stage).keep())
        try:
            await until_claimed(lead, run.run_id, 2)
            house.script.open("a")
            ended = await lead.ended(run.run_id)
        finally:
            other.cancel()
        assert ended.state == COMPLETED, ended.failure
        started = [request.attempt_id for request in house.script.requests]
        assert len(started) == len(set(started)) == 3, "its new owner joined the attempt"
        tried = await lead.attempts(run.run_id)
        assert {each.outcome for each in tried} == {evidence_pb2.OUTCOME_SUCCEEDED}


class FullDisk:
    """A journal whose first claims cannot be written."""

    def __init__(self, journal: Journal, refusals: int) -> None:
        self._journal = journal
        self.refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def claim(self, *given: Any, **named: Any) -> Appended:
        if self.refusals:
            self.refusals -= 1
            raise StoreFailed("database or disk is full; nothing was written")
        return await self._journal.claim(*given, **named)


async def test_a_run_that_cannot_be_claimed_yet_is_waited_for(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        full: Any = FullDisk(lead.journal, refusals=3)
        other = asyncio.create_task(other_runs(house, replace(lead.stage, journal=full)).keep())
        try:
            await until_claimed(lead, run.run_id, 2)
            house.script.open("a")
            ended = await lead.ended(run.run_id)
        finally:
            other.cancel()
        assert ended.state == COMPLETED, ended.failure
        assert not full.refusals


async def test_a_lead_killed_when_its_run_ends_leaves_only_the_runs_branch(house: House) -> None:
    async with house.worker(slots=3) as worker, lead_process(house, worker) as lead:
        run = await lead.create(*(task(name) for name in "abc"))
        while (ended := await lead.run(run.run_id)).state not in FINAL:
            pass
        await lead.kill()
        assert ended.state == COMPLETED, ended.failure
        assert branches(house.project) == {run.branch: ended.head_commit}


async def test_a_lead_killed_as_it_makes_a_run_leaves_no_branch_of_it(house: House) -> None:
    """The journal is held by another program, so that the lead dies between the branch's push and the run."""
    async with house.worker() as worker, lead_process(house, worker) as lead:
        file = house.folder / "lead" / "journal.sqlite3"
        with closing(sqlite3.connect(file, isolation_level=None)) as journal:
            journal.execute("BEGIN IMMEDIATE")
            creating = asyncio.create_task(lead.create(task("a")))
            await eventually(lambda: bool(branches(house.project)))
            await lead.kill()
        with suppress(grpc.aio.AioRpcError):
            await creating
        await lead.start()
        await eventually(lambda: not branches(house.project))
        run = await lead.create(task("a"))
        assert (await lead.ended(run.run_id)).state == COMPLETED
        assert list(branches(house.project)) == [run.branch]


async def test_a_run_that_fails_leaves_no_candidate(house: House) -> None:
    """Two tasks that are red together, each time: nothing they were stacked to outlives the run."""
    house.script.files = {"a": {"together-1": ""}, "b": {"together-2": ""}}
    async with house.worker(slots=3) as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b"))
        ended = await lead.ended(run.run_id)
        left = branches(house.project)
        assert ended.state == state_pb2.RUN_STATE_FAILED
        assert not [name for name in left if "/next/" in name], left
        (merged,) = [each for each in (await lead.tasks(run.run_id)).values() if each.commit]
        assert not [name for name, commit in left.items() if commit == merged.commit and "/attempts/" in name]


async def test_a_stopped_lead_ends_soon_and_cancels_nothing(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker, lead_process(house, worker) as lead:
        run = await lead.create(task("a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        async with asyncio.timeout(10):
            assert await lead.kill(signal.SIGTERM) == 0
        assert worker.attempts.in_flight == (f"{run.run_id}.a.1",)
        house.script.open("a")
        await lead.start()
        assert (await lead.ended(run.run_id)).state == COMPLETED


async def test_a_lead_that_was_frozen_loses_no_attempt(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker, lead_process(house, worker) as lead:
        run = await lead.create(task("a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        assert lead.server
        os.kill(lead.server.process.pid, signal.SIGSTOP)
        await asyncio.sleep(3)
        os.kill(lead.server.process.pid, signal.SIGCONT)
        house.script.open("a")
        assert (await lead.ended(run.run_id)).state == COMPLETED
        assert [each.outcome for each in await lead.attempts(run.run_id)] == [
            evidence_pb2.OUTCOME_SUCCEEDED,
            evidence_pb2.OUTCOME_SUCCEEDED,
        ]


async def test_a_request_is_repeated_over_a_killed_lead(house: House) -> None:
    async with house.worker() as worker, lead_process(house, worker) as lead:
        first = await lead.create(task("a"))
        await lead.kill()
        await lead.start()
        assert (await lead.create(task("a"))).run_id == first.run_id
        assert (await lead.ended(first.run_id)).state == COMPLETED


async def test_a_worker_started_anew_means_lost_and_the_work_goes_on_from_what_was_pushed(
    house: House,
) -> None:
    port = free_port()
    house.script.gate("a.1")
    async with house.lead(f"127.0.0.1:{port}") as lead:
        async with house.worker(port=port):
            run = await lead.create(task("a"))
            await house.script.until_waiting(f"{run.run_id}.a.1")
            pushed = branches(house.project)[f"codeframe/{run.run_id}/attempts/a/1"]
        async with house.worker(port=port):
            ended = await lead.ended(run.run_id)
            assert ended.state == COMPLETED, ended.failure
            first, second = house.script.work("a")
            assert (second.number, second.start_commit, second.base_commit) == (2, pushed, first.base_commit)
            assert second.previous
            assert second.previous.outcome == "lost"
            assert (await lead.tasks(run.run_id))["a"].retries == 0, "it costs nothing"


async def test_a_worker_that_is_gone_means_lost_and_another_does_the_work(house: House) -> None:
    house.script.gate("a.1")
    async with house.worker("two", slots=1) as two:
        async with house.worker("one", slots=5) as one, house.lead(one, two) as lead:
            run = await lead.create(task("a"))
            await house.script.until_running(f"{run.run_id}.a.1")
        async with house.lead(one, two) as lead:
            ended = await lead.ended(run.run_id)
            assert ended.state == COMPLETED, ended.failure
            tried = [each for each in await lead.attempts(run.run_id) if each.task_id]
            assert [(each.agent_id, each.outcome) for each in tried] == [
                ("one/backend", evidence_pb2.OUTCOME_LOST),
                ("two/backend", evidence_pb2.OUTCOME_SUCCEEDED),
            ]
            assert "was silent" in tried[0].message


async def test_a_repository_that_is_away_is_waited_for(house: House) -> None:
    house.script.gate("a")
    away = house.project.with_name("away")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        house.project.rename(away)
        house.script.open("a")
        await eventually(lambda: not worker.attempts.in_flight)
        await asyncio.sleep(1)
        away.rename(house.project)
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure


async def test_a_branch_that_somebody_else_moved_ends_the_run_and_is_left(house: House) -> None:
    house.script.gate("a")
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", "a"))
        await house.script.until_running(f"{run.run_id}.a.1")
        foreign = commit_files(house.project, {"foreign": ""})
        git(house.project, "update-ref", f"refs/heads/{run.branch}", foreign)
        house.script.open("a")
        ended = await lead.ended(run.run_id)
        assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_RUN_BRANCH_MOVED
        assert run.branch in ended.failure.message
        assert branches(house.project)[run.branch] == foreign


async def test_an_attempts_own_time_ends_it_as_timed_out(house: House) -> None:
    house.script.gate("a.1")
    limits = lead_pb2.RunLimits(attempt_timeout=Duration(seconds=1))
    async with house.worker() as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), limits=limits)
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        assert (await lead.attempts(run.run_id))[1].outcome == evidence_pb2.OUTCOME_TIMED_OUT


async def test_a_second_lead_on_the_same_folder_refuses_to_start(house: House) -> None:
    async with lead_process(house) as lead:
        other = LeadProcess(house)
        with pytest.raises(AssertionError, match="it ended"):
            await other.start()
        await other.channel.close()
        with pytest.raises(grpc.aio.AioRpcError):
            await lead.run("none")


async def test_random_kills_of_lead_and_worker_together_never_lose_a_run(house: House) -> None:
    chance = random.Random(3)
    port = free_port()
    async with lead_process(house, f"127.0.0.1:{port}") as lead:
        async with house.worker(port=port, slots=3):
            run = await lead.create(*(task(name) for name in "abc"), task("d", "a", "b", "c"))
            await asyncio.sleep(chance.uniform(0.2, 1.0))
        for _ in range(2):
            await lead.kill()
            async with house.worker(port=port, slots=3):
                await lead.start()
                await asyncio.sleep(chance.uniform(0.2, 1.0))
        async with house.worker(port=port, slots=3):
            ended = await lead.ended(run.run_id)
            assert ended.state == COMPLETED, ended.failure
            assert {f"{name}.txt" for name in "abcd"} <= files_at(house.project, ended.head_commit)


async def test_a_worker_that_is_heard_of_again_tells_what_its_lost_attempt_took(house: House) -> None:
    """All of its allowance is charged, as an estimate, until it ends the attempt and tells what it took."""
    house.script.gate("a.1")
    async with (
        house.worker() as worker,
        Cuts(worker.address).listening() as cuts,
        house.lead(cuts.address) as lead,
    ):
        run = await lead.create(task("a"), budget=budget_pb2.Budget(turns=10))
        await house.script.until_waiting(f"{run.run_id}.a.1")
        await lead.until(run.run_id, lambda run: run.charged.turns == 1)
        cuts.away = True
        cuts.cut()
        silent = await lead.until(run.run_id, lambda run: run.HasField("estimated"))
        assert (silent.charged.turns, silent.estimated.turns) == (10, 9)
        await lead.until_task(run.run_id, "a", lambda task: task.waiting_for == state_pb2.WAITING_FOR_BUDGET)
        cuts.away = False
        ended = await lead.ended(run.run_id)
        assert ended.state == COMPLETED, ended.failure
        assert not ended.HasField("estimated")
        assert ended.charged.turns == 2
        tried = [each for each in await lead.attempts(run.run_id) if each.task_id]
        assert [(each.outcome, each.allowance.turns) for each in tried] == [
            (evidence_pb2.OUTCOME_LOST, 10),
            (evidence_pb2.OUTCOME_SUCCEEDED, 9),
        ]
        assert [sum(usage.turns for usage in each.usage) for each in tried] == [1, 1]


async def test_a_lost_attempt_whose_run_has_ended_is_ended_once_its_worker_is_heard_of(house: House) -> None:
    house.script.gate("a.1")
    async with (
        house.worker() as worker,
        Cuts(worker.address).listening() as cuts,
        house.lead(cuts.address) as lead,
    ):
        run = await lead.create(task("a"))
        await house.script.until_waiting(f"{run.run_id}.a.1")
        cuts.away = True
        cuts.cut()
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        ended = await lead.ended(run.run_id)
        assert ended.state == state_pb2.RUN_STATE_CANCELLED
        assert worker.attempts.in_flight == (f"{run.run_id}.a.1",)
        cuts.away = False
        await eventually(lambda: not worker.attempts.in_flight)
