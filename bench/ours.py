"""python -m bench.ours MODEL_PORT: attempts by the real agent and model client."""

import asyncio
import random
import sys

from bench.task import KEY, MODEL, ROLE, NoWorkspace, result
from bench.worker import serve
from services.workers.agent import WorkerAgent
from services.workers.broadcast import Broadcast
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.model.claude import ClaudeModel
from services.workers.roles.role import load_role
from services.workers.work import AttemptRequest, TaskResult, TaskWork


class Work:
    """Does the task with a real agent. A Perform."""

    def __init__(self, model: ClaudeModel) -> None:
        self._model = model
        self._role = load_role(ROLE)
        self._clock = SystemClock()

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        """Do it. See Perform."""
        assert isinstance(request.work, TaskWork)
        start = self._clock.now()
        agent = WorkerAgent(
            self._role,
            self._model,
            NoWorkspace(),
            broadcast,
            model_name=MODEL,
            limits=request.limits,
            clock=self._clock,
        )
        async with halt.within(request.limits.attempt_timeout.total_seconds()):
            record = await agent.execute_task(request.work)
        return result(request, record, start, self._clock.now())


async def main(model_port: str) -> None:
    """Serve until the parent ends."""
    url = f"http://127.0.0.1:{model_port}"
    model = ClaudeModel(KEY, url, clock=SystemClock(), chance=random.random)
    try:
        await serve(Work(model), url)
    finally:
        await model.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
