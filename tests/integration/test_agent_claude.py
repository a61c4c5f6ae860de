"""An agent and the real client at a scripted Claude: what its prompts cost, and how long they may grow."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.workers.broadcast import Activity, Notice
from services.workers.clock import SystemClock
from services.workers.desk import AgentRecord, Verdict
from services.workers.model.claude import ClaudeModel
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.role_agents import BackendWorkerAgent
from services.workers.work import Limits, TaskWork
from tests.unit.demo.serving import KEY, Serving, serving
from tests.unit.workers.git_workspace import GitDesk, git_workspace

TASK = TaskWork("1", "Read a lot", "Read every file.\n\n[script: reader]", 1, "a" * 40, "codeframe/r/1/1")
READS = "- {{when: {{turn: {turn}}}, say: I read on., use: [read_file: {{path: f{turn}.txt}}]}}"
GREEN = Verdict(True)
RED = Verdict(False, "1 of 3 tests failed", "FAILED test_sum: assert 3 == 4\n" + "and so on\n" * 200)


def reader(turns: int) -> str:
    """A script that reads one file a turn, then ends its turn, and once more after a correction."""
    reads = "\n".join(f"  {READS.format(turn=turn)}" for turn in range(1, turns))
    return f"marker: reader\nsteps:\n{reads}\n  - {{say: I have read it all.}}\n"


@dataclass(slots=True)
class Reading:
    """An agent, its desk, and the scripted Claude that it asks."""

    agent: BackendWorkerAgent
    claude: Serving
    notices: list[Notice]

    async def to_the_end(self) -> AgentRecord:
        return await self.agent.execute_task(TASK)

    @property
    def activities(self) -> list[str]:
        return [notice.message for notice in self.notices if isinstance(notice, Activity)]

    def turns(self) -> list[dict[str, Any]]:
        """The requests that were answered, as the scripted Claude counts them."""
        return [request for request in self.claude.requests() if request["state"] == "finished"]


@asynccontextmanager
async def reading(
    folder: Path, turns: int, file_size: int, *verdicts: Verdict, context_tokens: int | None = None
) -> AsyncIterator[Reading]:
    """Files of random words, about as compressible as code is, and an agent that reads them."""
    (folder / "work").mkdir()
    await git_workspace(folder / "work")
    desk = GitDesk(folder / "work", verdicts)
    chance = random.Random(7)
    for turn in range(1, turns):
        words = (f"word{chance.randrange(1000)}" for _ in range(file_size // 8))
        desk.put(f"f{turn}.txt", " ".join(words) + "\n")
    notices: list[Notice] = []

    async def broadcast(notice: Notice) -> None:
        notices.append(notice)

    clock = SystemClock()
    async with serving(folder, {"reader.yaml": reader(turns)}, context_tokens=context_tokens) as claude:
        model = ClaudeModel(KEY, claude.url, clock=clock, chance=random.random)
        agent = BackendWorkerAgent(
            model, desk, broadcast, model_name="claude-sonnet-5", limits=Limits(), clock=clock
        )
        try:
            yield Reading(agent, claude, notices)
        finally:
            await model.close()


async def test_from_the_second_turn_on_nine_tenths_of_what_is_read_comes_from_the_cache(
    tmp_path: Path,
) -> None:
    async with reading(tmp_path, 20, 2000, RED, GREEN) as attempt:
        record = await attempt.to_the_end()
        turns = attempt.turns()
    assert len(turns) == record.turns == 21
    later = turns[1:]
    read = sum(turn["cache_read_input_tokens"] for turn in later)
    everything = read + sum(turn["input_tokens"] + turn["cache_creation_input_tokens"] for turn in later)
    print(f"cache reads: {read} of {everything} input tokens, {read / everything:.1%}")
    assert read >= 0.9 * everything
    assert record.usage[0].cache_read_tokens == read + turns[0]["cache_read_input_tokens"]


async def test_a_conversation_that_outgrows_the_context_is_shortened_and_goes_on(tmp_path: Path) -> None:
    async with reading(tmp_path, 20, 4000, GREEN, context_tokens=14_000) as attempt:
        record = await attempt.to_the_end()
        requests = attempt.claude.requests()
    assert record.turns == 20
    refused = [at for at, request in enumerate(requests) if request["state"] == "refused"]
    told = [line for line in attempt.activities if "outgrew the model's context" in line]
    assert 1 <= len(told) == len(refused) <= 4, "it is halved, so it is seldom"
    for at in refused:
        after = requests[at + 1]
        assert after["state"] == "finished"
        assert after["cache_read_input_tokens"], "what stands before what was shortened is still cached"
    assert b'"shortened"' in record.transcript


async def test_a_task_that_alone_is_too_long_ends_at_once(tmp_path: Path) -> None:
    async with reading(tmp_path, 2, 100, GREEN, context_tokens=100) as attempt:
        with pytest.raises(AttemptFailed, match="nothing is left to be shortened") as raised:
            await attempt.to_the_end()
        assert len(attempt.claude.requests()) == 1
    assert raised.value.outcome is Outcome.PROVIDER_REJECTED
    assert "prompt is too long" in raised.value.message
