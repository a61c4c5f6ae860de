"""Ten tasks, again and again, on one fleet of real processes: none hangs. `make soak` does it 50 times."""

from pathlib import Path

import pytest

from codeframe.client import Client
from codeframe.v1 import events_pb2, plan_pb2, state_pb2, status_pb2
from tests.fleet import ROLES, Fleet, script, serve_fleet, task, watched_over

SILENCE = 60.0
"""Seconds without an event after which a run hangs. How long a round takes, the machine decides."""
MOST_EVENTS = 500
"""What a run tells at most; more, and it goes in circles."""
TASKS = tuple((f"task-{number}", ROLES[number % len(ROLES)]) for number in range(10))


def plan() -> plan_pb2.Plan:
    """Ten tasks, of which the last two wait for others."""
    tasks = [task(*one) for one in TASKS]
    tasks[8].depends_on.extend(["task-0", "task-1"])
    tasks[9].depends_on.append("task-8")
    return plan_pb2.Plan(title="ten tasks", tasks=tasks)


async def to_the_end(client: Client, fleet: Fleet, run_id: str, silence: float) -> None:
    """Follow a run to its end. Raises TimeoutError where nothing happens for so many seconds."""
    events = 0
    async with watched_over(fleet, silence) as goes_on, client.watch(run_ids=[run_id]) as watch:
        async for item in watch:
            if isinstance(item, status_pb2.JournaledEvent):
                goes_on()
                events += 1
                assert events < MOST_EVENTS


@pytest.mark.timeout(4000)
async def test_ten_tasks_never_hang(tmp_path: Path, rounds: int, capfd: pytest.CaptureFixture[str]) -> None:
    hangs = script("hangs", "backend", faults=[{"stall_after": 1, "times": 100}])
    async with (
        serve_fleet(tmp_path, [*(script(*one) for one in TASKS), hangs]) as fleet,
        Client(fleet.addresses["lead"]) as client,
    ):
        for number in range(rounds):
            run = await client.create_run(plan(), str(fleet.project))
            print(f"round {number + 1} of {rounds}: {run.run_id}")
            await to_the_end(client, fleet, run.run_id, SILENCE)
            run = await client.get_run(run.run_id)
            assert run.state == state_pb2.RUN_STATE_COMPLETED, run.failure

        # The watchdog itself, over a run whose model never ends its turn.
        hanging = plan_pb2.Plan(title="one", tasks=[task("hangs", "backend")])
        run = await client.create_run(hanging, str(fleet.project))
        async with watched_over(fleet, SILENCE), client.watch(run_ids=[run.run_id], cursor="") as watch:
            async for item in watch:
                if isinstance(item, status_pb2.JournaledEvent) and is_working(item.event):
                    break
        with pytest.raises(TimeoutError):
            await to_the_end(client, fleet, run.run_id, 1)
        await client.cancel_run(run.run_id)
        await to_the_end(client, fleet, run.run_id, SILENCE)
    assert "in test_ten_tasks_never_hang" in capfd.readouterr().out
    told = {name: (tmp_path / f"{name}.log").read_text() for name in fleet.servers}
    assert "in LeadAgent.conduct" in told["lead"]
    assert "in ClaudeModel.turn" in told["backend"]
    assert "Current thread" in told["gateway"]


def is_working(event: events_pb2.Event) -> bool:
    return event.task_status_changed.phase == state_pb2.TASK_PHASE_WORKING
