"""python -m bench.ours MODEL_PORT: a worker with the real servicer, attempts, agent and model client."""

import asyncio
import random
import sys

from bench.process import SETTINGS, until_parent_ends
from bench.task import INCARNATION, KEY, MODEL, ROLE, SLOTS, NoWorkspace, result
from codeframe.v1 import worker_pb2_grpc
from services.runtime.logs import configure_logs
from services.runtime.server import Server
from services.workers.agent import WorkerAgent
from services.workers.attempts import Attempts, Capability
from services.workers.broadcast import Broadcast
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.model.claude import ClaudeModel
from services.workers.roles.role import load_role
from services.workers.servicer import Identity, WorkerServicer
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


async def serve(model_port: str) -> None:
    """Serve until the parent ends."""
    configure_logs("bench", SETTINGS.log_format, SETTINGS.log_level)
    url = f"http://127.0.0.1:{model_port}"
    model = ClaudeModel(KEY, url, clock=SystemClock(), chance=random.random)
    server = Server(SETTINGS, ("codeframe.v1.WorkerService",))
    async with asyncio.TaskGroup() as group:
        capability = Capability((ROLE,), SLOTS, "none")
        attempts = Attempts(group, Work(model), capability, SystemClock(), INCARNATION)
        servicer = WorkerServicer(attempts, Identity("ours", "bench", MODEL, url, ""))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        print(server.address, flush=True)
        await until_parent_ends()
        await server.grpc.stop(None)
    await model.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(sys.argv[1])))
