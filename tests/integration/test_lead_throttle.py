"""A lead whose workers' provider asks to wait: nobody with that key is given more before it ends."""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from codeframe.v1 import lead_pb2, state_pb2
from services.lead.fleet import Rounds
from services.workers.model.gate import Pause
from services.workers.outcome import Outcome
from tests.eventually import eventually
from tests.integration.lead_stage import House, Lead, task

FAMILY = "claude-scripted"
QUICK = Rounds(every=0.1)
PROVIDER = state_pb2.WAITING_FOR_PROVIDER


class Provider:
    """What a key's provider has paused, as its workers meet it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.until = datetime(2000, 1, 1, tzinfo=UTC)

    def pause(self, seconds: float) -> datetime:
        self.until = datetime.now(UTC) + timedelta(seconds=seconds)
        return self.until

    def __call__(self) -> Sequence[Pause]:
        held = Pause(self.key, FAMILY, self.until, "HTTP 429 rate_limit_error")
        return [held] if self.until > datetime.now(UTC) else []


async def waits_for_provider(lead: Lead, run_id: str, task_id: str) -> lead_pb2.Task:
    await lead.until(run_id, lambda run: run.state == state_pb2.RUN_STATE_RUNNING)
    return await lead.until_task(run_id, task_id, lambda task: task.waiting_for == PROVIDER)


async def test_what_one_worker_meets_holds_for_every_worker_with_its_key(house: House) -> None:
    met, other = Provider("key-1"), Provider("key-1")
    async with (
        house.worker("one", roles=("test",), key="key-1", pauses=met) as one,
        house.worker("two", roles=("backend",), key="key-1", pauses=other) as two,
        house.lead(one, two, rounds=QUICK) as lead,
    ):
        until = met.pause(4)
        await eventually(lambda: any(worker.provider_pauses for worker in lead.fleet.workers()))
        run = await lead.create(task("a"))
        waiting = await waits_for_provider(lead, run.run_id, "a")
        assert waiting.retry_time.ToDatetime(UTC) == until
        states = {each.name: each.state for each in lead.fleet.workers()}
        assert states == dict.fromkeys(("one", "two"), state_pb2.AGENT_STATE_THROTTLED)
        assert (await lead.ended(run.run_id)).state == state_pb2.RUN_STATE_COMPLETED
        started = [attempt for attempt in await lead.attempts(run.run_id) if attempt.task_id]
        assert started[0].start_time.ToDatetime(UTC) >= until
        (throttled,) = await lead.told("fleet", "provider_throttled")
        assert (throttled.key_fingerprint, throttled.model_family) == ("key-1", FAMILY)
        assert throttled.resume_time.ToDatetime(UTC) == until
        assert (throttled.unavailable, throttled.message) == (False, "HTTP 429 rate_limit_error")


async def test_another_key_and_another_model_go_on(house: House) -> None:
    met, free = Provider("key-1"), Provider("key-2")
    async with (
        house.worker("one", roles=("backend",), key="key-1", pauses=met) as one,
        house.worker("two", roles=("frontend",), key="key-2", pauses=free) as two,
        house.lead(one, two, rounds=QUICK) as lead,
    ):
        met.pause(600)
        await eventually(lambda: any(worker.provider_pauses for worker in lead.fleet.workers()))
        run = await lead.create(
            task("held"), task("other-key", role="frontend"), task("other-model", model="claude-else-1")
        )
        await waits_for_provider(lead, run.run_id, "held")
        done = {"other-key", "other-model"}
        await lead.until(run.run_id, lambda run: run.counts.completed == len(done))
        assert {name for name, each in (await lead.tasks(run.run_id)).items() if each.commit} == done
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=run.run_id))
        await lead.ended(run.run_id)


async def test_a_lead_that_comes_back_keeps_to_what_it_told(house: House) -> None:
    met = Provider("key-1")
    async with house.worker("one", key="key-1", pauses=met) as one:
        async with house.lead(one, rounds=QUICK) as lead:
            until = met.pause(5)
            await eventually(lambda: any(worker.provider_pauses for worker in lead.fleet.workers()))
            run = await lead.create(task("a"))
            await waits_for_provider(lead, run.run_id, "a")
        met.until = datetime.now(UTC)  # as of a worker that was started anew
        async with house.lead(one, rounds=QUICK) as lead:
            assert (await lead.ended(run.run_id)).state == state_pb2.RUN_STATE_COMPLETED
            started = [attempt for attempt in await lead.attempts(run.run_id) if attempt.task_id]
            assert started[0].start_time.ToDatetime(UTC) >= until


async def test_after_a_provider_was_given_up_one_attempt_probes_it_first(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.lead.throttles.UNAVAILABLE_PAUSE", timedelta(seconds=1.5))
    house.script.endings["gives-up"] = deque([Outcome.PROVIDER_UNAVAILABLE])
    house.script.gate("probe.1.turn")
    wide = lead_pb2.RunLimits(concurrency=4)
    async with (
        house.worker("one", key="key-1", slots=4) as one,
        house.lead(one, rounds=QUICK) as lead,
    ):
        first = await lead.create(task("gives-up"), limits=wide)
        await lead.once(lambda: lead.told("fleet", "provider_throttled"))
        run = await lead.create(task("probe", priority=0), task("next"), request_id="r", limits=wide)
        await house.script.until_waiting(f"{run.run_id}.probe.1")
        await lead.until_task(
            run.run_id,
            "next",
            lambda task: task.waiting_for == PROVIDER and not task.HasField("retry_time"),
        )
        house.script.open("probe.1.turn")
        assert (await lead.ended(run.run_id)).state == state_pb2.RUN_STATE_COMPLETED
        kinds = [(event.WhichOneof("payload"), event) for event in await lead.events(run.run_id)]
        served = next(at for at, (kind, _) in enumerate(kinds) if kind == "usage_recorded")
        assigned = [
            at
            for at, (kind, event) in enumerate(kinds)
            if kind == "task_assigned" and event.task_assigned.task_id == "next"
        ]
        assert assigned[0] > served
        throttled = await lead.told("fleet", "provider_throttled")
        assert [each.unavailable for each in throttled] == [True, False]
        await lead.stub.CancelRun(lead_pb2.CancelRunRequest(run_id=first.run_id))
        await lead.ended(first.run_id)
