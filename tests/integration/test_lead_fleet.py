"""The fleet of a lead: slots, workers that drain, refuse or lack a key, and what is told of them."""

from dataclasses import replace

from codeframe.v1 import lead_pb2, state_pb2
from services.lead.journal import FLEET, Filter
from services.workers.attempts import Retention
from tests.integration.lead_stage import House, task

COMPLETED, FAILED = state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED


async def test_a_worker_that_drains_is_given_nothing_more(house: House) -> None:
    async with house.worker("one") as one, house.worker("two") as two:
        one.attempts.draining = True
        async with house.lead(one, two) as lead:
            run = await lead.create(task("a"), task("b"))
            assert (await lead.ended(run.run_id)).state == COMPLETED
            assert {each.agent_id for each in await lead.attempts(run.run_id)} == {"two/backend"}
            listed = (await lead.stub.ListWorkers(lead_pb2.ListWorkersRequest())).workers
            assert {each.name: each.state for each in listed} == {
                "one": state_pb2.AGENT_STATE_DRAINING,
                "two": state_pb2.AGENT_STATE_IDLE,
            }


async def test_a_worker_without_a_key_serves_nothing_and_says_why(house: House) -> None:
    async with house.worker("one", slots=3) as one, house.worker("two", roles=("test",)) as two:
        lacking = replace(one.attempts.capability, model_problem="set ANTHROPIC_API_KEY")
        able, one.attempts.capability = one.attempts.capability, lacking
        async with house.lead(one, two) as lead:
            run = await lead.create(task("a"))
            waiting = await lead.until(run.run_id, lambda run: bool(run.unserved_roles))
            assert list(waiting.unserved_roles) == ["backend"]
            assert waiting.unserved_reason == f"one at {one.address}: set ANTHROPIC_API_KEY"
            workers = (await lead.stub.ListWorkers(lead_pb2.ListWorkersRequest())).workers
            assert {each.name: each.problem for each in workers} == {
                "one": "set ANTHROPIC_API_KEY",
                "two": "",
            }
            refused = await lead.create(
                task("a"), unserved_role=lead_pb2.UNSERVED_ROLE_POLICY_FAIL, request_id="refused"
            )
            ended = await lead.ended(refused.run_id)
            assert ended.failure.reason == state_pb2.RUN_FAILURE_REASON_NO_WORKER
            assert "set ANTHROPIC_API_KEY; then create the run again" in ended.failure.message
            one.attempts.capability = able
            assert (await lead.ended(run.run_id)).state == COMPLETED
            assert not [each for each in await lead.attempts(run.run_id) if each.outcome == 0]


async def test_a_refused_attempt_is_bound_elsewhere_and_costs_nothing(house: House) -> None:
    house.script.gate("a")
    async with (
        house.worker("one", slots=3, retention=Retention(unreleased=0)) as one,
        house.worker("two", slots=1) as two,
        house.lead(one, two) as lead,
    ):
        run = await lead.create(task("a"), task("b"))
        await house.script.until_running(f"{run.run_id}.a.1")

        async def refused() -> bool:
            messages = [each.message for each in await lead.told(run.run_id, "task_status_changed")]
            return any(
                message.startswith("NO_FREE_SLOT: attempts that ended hold too much") for message in messages
            )

        await lead.once(refused)
        house.script.open("a")
        assert (await lead.ended(run.run_id)).state == COMPLETED
        done = {each.task_id: each for each in await lead.attempts(run.run_id) if each.task_id}
        assert {name: (each.agent_id, each.number) for name, each in done.items()} == {
            "a": ("two/backend", 1),
            "b": ("two/backend", 1),
        }


async def test_the_fleet_tells_each_fact_once_over_restarts_of_the_lead(house: House) -> None:
    async with house.worker("one", roles=("backend", "test")) as worker:
        for _ in range(3):
            async with house.lead(worker) as lead:
                await lead.fleet.changed(0)
        async with house.lead(worker) as lead:
            run = await lead.create(task("a"))
            await lead.ended(run.run_id)

            async def idle_again() -> bool:
                told = await lead.told(FLEET, "agent_status_changed")
                return bool(told[-1].status == state_pb2.AGENT_STATE_IDLE) and len(told) > 3

            await lead.once(idle_again)
            created = await lead.told(FLEET, "agent_created")
            assert [(each.agent_id, each.agent_type) for each in created] == [
                ("one/backend", "backend"),
                ("one/test", "test"),
            ]
            told = await lead.told(FLEET, "agent_status_changed")
            of_tests = [each.status for each in told if each.agent_id == "one/test"]
            assert of_tests == [state_pb2.AGENT_STATE_IDLE]
            of_backend = [each.status for each in told if each.agent_id == "one/backend"]
            idle, working = state_pb2.AGENT_STATE_IDLE, state_pb2.AGENT_STATE_WORKING
            assert of_backend == [idle, working] * (len(of_backend) // 2) + [idle]
            in_run = await lead.told(run.run_id, "agent_status_changed")
            assert [(each.agent_id, each.current_task_id) for each in in_run] == [("one/backend", "a")]


async def test_a_lead_that_starts_after_a_trim_tells_its_fleet_again(house: House) -> None:
    async with house.worker("one", roles=("backend",)) as worker:
        async with house.lead(worker) as lead:
            await lead.fleet.changed(0)
            assert [each.agent_id for each in await lead.told(FLEET, "agent_created")] == ["one/backend"]
            oldest = (await lead.journal.bounds()).head
            await lead.journal.trim(oldest)
        async with house.lead(worker) as lead:
            await lead.fleet.changed(0)
            kept = (await lead.journal.entries(oldest, Filter(runs=frozenset({FLEET})))).entries
            assert [entry.record.kind for entry in kept] == ["agent_created", "agent_status_changed"]
            run = await lead.create(task("a"))
            assert (await lead.ended(run.run_id)).state == COMPLETED
        async with house.lead(worker) as lead:
            await lead.fleet.changed(0)
            kept = (await lead.journal.entries(oldest, Filter(runs=frozenset({FLEET})))).entries
            assert [entry.record.kind for entry in kept].count("agent_created") == 1


async def test_a_worker_that_went_while_the_lead_was_down_is_told_unreachable(house: House) -> None:
    async with house.worker("one", roles=("backend",)) as worker, house.lead(worker) as lead:
        await lead.fleet.changed(0)
    async with house.lead(worker) as lead:
        await lead.fleet.changed(0)
        told = await lead.told(FLEET, "agent_status_changed")
        assert [each.status for each in told] == [
            state_pb2.AGENT_STATE_IDLE,
            state_pb2.AGENT_STATE_UNREACHABLE,
        ]
        (listed,) = lead.fleet.workers()
        assert listed.state == state_pb2.AGENT_STATE_UNREACHABLE
        assert "UNAVAILABLE" in listed.problem


async def test_a_role_that_no_worker_serves_is_said_and_waited_for(house: House) -> None:
    async with house.worker("one", roles=("backend",)) as one, house.worker("two", roles=("test",)) as two:
        async with house.lead(one) as lead:
            run = await lead.create(task("a"), task("b", role="test"))
            told = await lead.until(run.run_id, lambda run: run.counts.completed == 1)
            assert list(told.unserved_roles) == ["test"]
            waiting = (await lead.tasks(run.run_id))["b"]
            assert waiting.waiting_for == state_pb2.WAITING_FOR_WORKER
            assert waiting.message == "no worker serves the role test"
        async with house.lead(one, two) as lead:
            ended = await lead.ended(run.run_id)
            assert (ended.state, list(ended.unserved_roles)) == (COMPLETED, [])


async def test_a_role_that_no_worker_serves_fails_the_run_where_that_was_asked(house: House) -> None:
    policy = lead_pb2.UNSERVED_ROLE_POLICY_FAIL
    async with house.worker(roles=("backend",)) as worker, house.lead(worker) as lead:
        run = await lead.create(task("a"), task("b", role="test"), unserved_role=policy)
        ended = await lead.ended(run.run_id)
        assert (ended.state, ended.failure.reason) == (FAILED, state_pb2.RUN_FAILURE_REASON_NO_WORKER)
        assert "test" in ended.failure.message
        served = await lead.create(task("a"), unserved_role=policy, request_id="other")
        assert (await lead.ended(served.run_id)).state == COMPLETED
        assert not house.script.work("b")
