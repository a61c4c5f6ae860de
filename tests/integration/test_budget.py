"""What the scripted Claude bills, and what codeframe says it spent: a whole fleet, budgets and none."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio

from codeframe.client import Client, CodeframeError
from codeframe.v1 import budget_pb2, evidence_pb2, lead_pb2, plan_pb2, state_pb2
from services.runtime.prices import Tokens, our_prices
from tests.eventually import eventually
from tests.fleet import Fleet, script, serve_fleet, task, watched_over
from tests.git_project import files_at

FAILED, COMPLETED = state_pb2.RUN_STATE_FAILED, state_pb2.RUN_STATE_COMPLETED
FINAL = (FAILED, COMPLETED, state_pb2.RUN_STATE_CANCELLED)
MODEL = "claude-haiku-5-5"
TURNING = ("first", "second", "third")
ROLES = {"one": "backend", "two": "frontend", "three": "test"}
KINDS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


def writer(name: str, turns: int) -> dict[str, Any]:
    """A script that writes a file in each of so many turns, and is done in one more."""
    steps = [
        {
            "when": {"turn": turn},
            "say": f"I write part {turn}.",
            "use": [{"put_file": {"path": f"lib/{name}-{turn}.txt", "content": "green\n"}}],
        }
        for turn in range(1, turns + 1)
    ]
    return {"marker": name, "steps": [*steps, {"say": "Done."}]}


@dataclass(frozen=True, slots=True)
class Paid:
    """A fleet, a client of its lead, and the bill."""

    fleet: Fleet
    client: Client

    async def bill(self, *markers: str) -> list[dict[str, Any]]:
        """The requests that are owed, in the order they came, of these conversations or of all."""
        url = self.fleet.addresses["claude"]
        async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
            listed = (await http.get(f"{url}/_scripted/bill")).json()["requests"]
        return [r for r in listed if r["state"] != "refused" and (not markers or r["marker"] in markers)]

    async def run(
        self, *tasks: plan_pb2.PlannedTask, budget: budget_pb2.Budget | None = None
    ) -> lead_pb2.Run:
        plan = plan_pb2.Plan(title="a plan", tasks=tasks)
        return await self.client.create_run(plan, str(self.fleet.project), budget=budget)

    async def ended(self, run: lead_pb2.Run) -> lead_pb2.Run:
        async with watched_over(self.fleet, 60):
            async for _ in self.client.watch(run_ids=[run.run_id]):
                pass
        return await self.client.get_run(run.run_id)

    async def until_asked_again(self, run: lead_pb2.Run, name: str) -> None:
        """Return once a task's first turn is in the account, and its second under way."""

        async def asked_again() -> bool:
            turns = [request["turn"] for request in await self.bill(name)]
            told = [attempt.task_id for attempt in await self.attempts(run) if attempt.usage]
            return 2 in turns and name in told

        await eventually(asked_again)

    async def attempts(self, run: lead_pb2.Run) -> list[lead_pb2.Attempt]:
        made = [attempt async for attempt in self.client.attempts(run.run_id)]
        return [attempt for attempt in made if attempt.task_id]


@pytest_asyncio.fixture(loop_scope="module")
async def _own_loop() -> asyncio.AbstractEventLoop:
    """The loop whose lag is held against these tests: they share one, as they share a fleet."""
    return asyncio.get_running_loop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def paid(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Paid]:
    scripts = [writer("one", 3), script("two", "frontend"), script("three", "test")]
    # "two" is killed in the midst of its second reply, which stalls only as it is tried first.
    scripts[1]["steps"][1] |= {"faults": [{"stall_after": 2, "seconds": 600, "times": 1}]}
    scripts += [writer(name, 8) for name in ("reader", "payer", "bounded", *TURNING)]
    scripts.append(writer("free", 1))
    folder = tmp_path_factory.mktemp("fleet")
    async with serve_fleet(folder, scripts) as fleet, Client(fleet.addresses["lead"]) as client:
        yield Paid(fleet, client)


def billed(requests: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {kind: sum(request[kind] for request in requests) for kind in KINDS}


def told(usage: Sequence[evidence_pb2.ModelUsage]) -> dict[str, int]:
    """What usages come to, by the bill's names."""
    return dict(
        zip(
            KINDS,
            (
                sum(each.input_tokens for each in usage),
                sum(each.cache_write_tokens for each in usage),
                sum(each.cache_read_tokens for each in usage),
                sum(each.output_tokens for each in usage),
            ),
            strict=True,
        )
    )


def cost_of(requests: Sequence[dict[str, Any]]) -> int:
    """What the bill comes to by the price table, call by call."""
    prices, total = our_prices(), 0
    for request in requests:
        tokens = Tokens(*(request[kind] for kind in (KINDS[0], KINDS[3], KINDS[1], KINDS[2])))
        cost = prices.cost(request["model"], tokens)
        assert cost is not None
        total += cost
    return total


async def shown(paid: Paid, run: lead_pb2.Run) -> str:
    lead = paid.fleet.addresses["lead"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "codeframe.cli", "show", run.run_id, "--lead", lead),
        env={**os.environ, "COLUMNS": "80"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@pytest.mark.timeout(300)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_account_adds_up_to_the_bill_but_for_what_is_estimated_of_a_killed_worker(
    paid: Paid,
) -> None:
    run = await paid.run(*(task(name, role, model=MODEL) for name, role in ROLES.items()))
    await paid.until_asked_again(run, "two")
    worker = paid.fleet.processes["frontend"].process
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await paid.fleet.restart("frontend")
    ended = await paid.ended(run)
    assert ended.state == COMPLETED, ended.failure
    attempts = await paid.attempts(run)
    output = await shown(paid, run)
    bill = await paid.bill(*ROLES)
    by_task = {name: [usage for a in attempts if a.task_id == name for usage in a.usage] for name in ROLES}
    for name in ("one", "three"):
        mine = [request for request in bill if request["marker"] == name]
        assert told(by_task[name]) == billed(mine)
        assert sum(usage.cost_micros for usage in by_task[name]) == cost_of(mine)
        assert all(usage.cost_known for usage in by_task[name])
    lost, again = (attempt for attempt in attempts if attempt.task_id == "two")
    assert lost.outcome == evidence_pb2.OUTCOME_LOST
    assert lost.HasField("estimated")
    assert not again.HasField("estimated")
    mine = [request for request in bill if request["marker"] == "two"]
    cut_off = [request for request in mine if request["state"] != "finished"]
    assert len(cut_off) == 1
    assert told(by_task["two"]) == billed([request for request in mine if request not in cut_off])
    assert 0 < sum(billed(cut_off).values()) <= lost.estimated.tokens
    assert 0 < cost_of(cut_off) <= lost.estimated.cost_micros
    assert told(ended.usage) == billed([request for request in bill if request not in cut_off])
    assert ended.estimated == lost.estimated
    total = ended.usage[0]
    assert f"total           {MODEL}" in " ".join(output.split(" "))
    assert f"{total.output_tokens:,}" in output
    assert "estimated" in output


@pytest.mark.timeout(300)
@pytest.mark.asyncio(loop_scope="module")
async def test_budgets_are_passed_by_one_call_in_flight_and_the_work_so_far_is_kept(paid: Paid) -> None:
    """Runs at the same time with a budget each: of tokens, of turns, of dollars; and one of a task's."""
    with pytest.raises(CodeframeError) as refused:
        await paid.run(task("payer", "backend", model="model-x"), budget=budget_pb2.Budget(cost_micros=5_000))
    runs = [
        await paid.run(task("reader", "backend"), budget=budget_pb2.Budget(tokens=9_000)),
        await paid.run(*(task(name, "backend") for name in TURNING), budget=budget_pb2.Budget(turns=6)),
        await paid.run(task("payer", "backend"), budget=budget_pb2.Budget(cost_micros=5_000)),
        await paid.run(
            task("bounded", "backend", budget=budget_pb2.Budget(turns=2)), task("free", "backend")
        ),
    ]
    reading, turns, dollars, mixed = [await paid.ended(run) for run in runs]
    bills = [await paid.bill(*markers) for markers in (("reader",), TURNING, ("payer",))]
    last = (await paid.attempts(reading))[-1]
    shared = await paid.attempts(turns)
    output = await shown(paid, reading)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.reason == "ERROR_REASON_NO_PRICE"
    assert [each.field for each in refused.value.violations] == ["plan.tasks[0].model"]
    for ended in (reading, turns, dollars):
        assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_BUDGET_EXHAUSTED
    spent = sum(billed(bills[0]).values())
    assert spent - sum(billed(bills[0][-1:]).values()) < 9_000 <= spent == reading.charged.tokens
    assert last.outcome == evidence_pb2.OUTCOME_ALLOWANCE_SPENT
    assert "lib/reader-1.txt" in files_at(paid.fleet.project, last.result.commit)
    assert last.result.commit[:12] in reading.failure.message
    assert f"{spent:,} of 9,000 tokens" in output
    assert len(bills[1]) == 6
    assert shared[0].allowance.turns == 2, "a third: three tasks may still want a slot"
    for attempt in shared:
        assert sum(usage.turns for usage in attempt.usage) == attempt.allowance.turns
    assert {attempt.outcome for attempt in shared} == {evidence_pb2.OUTCOME_ALLOWANCE_SPENT}
    assert cost_of(bills[2][:-1]) < 5_000 <= cost_of(bills[2]) == dollars.charged.cost_micros
    tasks = {each.task_id: each async for each in paid.client.tasks(mixed.run_id)}
    bounded = await paid.bill("bounded")
    assert mixed.failure.reason != state_pb2.RUN_FAILURE_REASON_BUDGET_EXHAUSTED
    assert tasks["free"].state == state_pb2.TASK_STATE_COMPLETED, "what has no budget goes on"
    assert tasks["bounded"].reason == evidence_pb2.OUTCOME_ALLOWANCE_SPENT
    assert "the task's budget is spent: 2 of 2 turns" in tasks["bounded"].message
    assert [request["turn"] for request in bounded] == [1, 2]
    (kept,) = [each for each in await paid.attempts(mixed) if each.task_id == "bounded"]
    assert "lib/bounded-2.txt" in files_at(paid.fleet.project, kept.result.commit)
