"""A provider that is overloaded for longer than a turn waits: lead, worker and model client are real.

Minutes are seconds here: what a turn waits in all, and the pauses after it was given up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2, lead_pb2, plan_pb2, state_pb2, status_pb2
from services.lead.fleet import Rounds
from services.lead.machine.outcome import RULES, Outcome
from services.workers.clock import SystemClock
from services.workers.model.claude import ClaudeModel
from services.workers.model.retry import Patience
from tests.git_project import files_at, git, make_project
from tests.integration.lead_stage import Lead, serve_lead, task
from tests.unit.demo.serving import KEY, Serving
from tests.unit.demo.serving import serving as serving_claude
from tests.worker_stage import serving as serving_worker

GIVES_UP_AFTER = Patience(total=6)
PAUSE = timedelta(seconds=3)
UNAVAILABLE = evidence_pb2.OUTCOME_PROVIDER_UNAVAILABLE
FILES = {
    "check.sh": 'echo \'<testsuite><testcase classname="a" name="t"/></testsuite>\' > "$CODEFRAME_REPORT"\n',
    "codeframe.toml": '[verification]\ncommand = "sh check.sh"\n',
}
# The provider serves the first turn of `away`, and refuses the second for as long as that attempt asks.
AWAY = """\
marker: away
steps:
  - when: {turn: 1, prompt_lacks: was interrupted}
    use: [create_file: {path: before.txt, content: paid for}]
  - when: {turn: 2, prompt_lacks: was interrupted}
    use: [create_file: {path: after.txt, content: never said}]
    faults: [{status: 529, times: 999}]
  - when: {turn: 1}
    use: [create_file: {path: after.txt, content: whole}]
  - say: Done.
"""
OTHER = """\
marker: other
steps:
  - when: {turn: 1}
    use: [create_file: {path: other.txt, content: whole}]
  - say: Done.
"""


def told(name: str) -> plan_pb2.PlannedTask:
    return task(name, description=f"Do it. [script: {name}]", model="claude-sonnet-5")


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[Lead, Serving]]:
    project = folder / "project"
    make_project(project, FILES)
    async with serving_claude(folder, {"away.yaml": AWAY, "other.yaml": OTHER}) as claude:
        clock = SystemClock()
        model = ClaudeModel(KEY, claude.url, clock=clock, chance=lambda: 0.0, patience=GIVES_UP_AFTER)
        try:
            async with (
                serving_worker(folder / "worker", claude=model, clock=clock) as worker,
                serve_lead(folder / "lead", project, worker.address, rounds=Rounds(every=0.1)) as lead,
            ):
                yield lead, claude
        finally:
            await model.close()


async def given_up(lead: Lead) -> bool:
    """Whether the provider has been told to be unavailable."""
    return any(each.unavailable for each in await lead.told("fleet", "provider_throttled"))


@pytest.mark.thorough
async def test_a_provider_that_was_given_up_costs_no_retry_and_one_attempt_probes_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.lead.throttles.UNAVAILABLE_PAUSE", PAUSE)
    rule = RULES[Outcome.PROVIDER_UNAVAILABLE]
    monkeypatch.setitem(RULES, Outcome.PROVIDER_UNAVAILABLE, replace(rule, pause=PAUSE))
    no_retry = lead_pb2.RunLimits(retries=0)
    async with asyncio.timeout(60), house(tmp_path) as (lead, claude):
        first_run = await lead.create(told("away"), limits=no_retry)
        await lead.once(lambda: given_up(lead))
        waiting = await lead.create(told("other"), request_id="r", limits=no_retry)
        ended = [await lead.ended(run.run_id) for run in (first_run, waiting)]
        first, second = [each for each in await lead.attempts(first_run.run_id) if each.task_id]
        asked = [request for request in claude.requests() if request["marker"] == "away"]
        throttled = await lead.told("fleet", "provider_throttled")
        events = [*await lead.journaled(first_run.run_id), *await lead.journaled(waiting.run_id)]
    assert [run.state for run in ended] == [state_pb2.RUN_STATE_COMPLETED] * 2, ended
    assert first.outcome == UNAVAILABLE
    assert "did not serve in 4 tries" in first.message
    assert "HTTP 529 overloaded" in first.message
    assert [request["state"] for request in asked] == ["finished", *["refused"] * 4, *["finished"] * 2]
    project = tmp_path / "project"
    assert files_at(project, first.result.commit) == {*FILES, "before.txt"}
    assert git(project, "rev-parse", f"{second.result.commit}^") == first.result.commit
    assert files_at(project, ended[0].head_commit) == {*FILES, "before.txt", "after.txt"}
    assert len({each.key_fingerprint for each in throttled}) == 1, "what the worker met and what was given up"
    assert [throttled[-2].unavailable, throttled[-1].unavailable] == [True, False]
    _one_went_first(sorted(events, key=lambda each: each.revision))


def _one_went_first(events: list[status_pb2.JournaledEvent]) -> None:
    """After the provider was given up one task is assigned, and the other once that one's turn was served."""
    told = [each.event for each in events]
    given_up = next(at for at, event in enumerate(told) if event.attempt_ended.outcome == UNAVAILABLE)
    kinds = [event.WhichOneof("payload") for event in told[given_up:]]
    assert [kind for kind in kinds if kind in ("task_assigned", "usage_recorded")][:2] == [
        "task_assigned",
        "usage_recorded",
    ]
    assert kinds.count("task_assigned") == 2
