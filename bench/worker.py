"""A worker process with the real server, edge, servicer and attempts; how one is done is the contestant's."""

import asyncio

from bench.process import SETTINGS, until_parent_ends
from bench.task import INCARNATION, MODEL, ROLE, SLOTS
from codeframe.v1 import worker_pb2_grpc
from services.runtime.logs import configure_logs
from services.runtime.process import spare_collections
from services.runtime.server import Server
from services.workers.attempts import Attempts, Capability, Perform
from services.workers.clock import SystemClock
from services.workers.servicer import Identity, WorkerServicer


async def serve(perform: Perform, model_url: str) -> None:
    """Serve until the parent ends."""
    configure_logs("bench", SETTINGS.log_format, SETTINGS.log_level)
    spare_collections()
    server = Server(SETTINGS, ("codeframe.v1.WorkerService",))
    async with asyncio.TaskGroup() as group:
        capability = Capability((ROLE,), SLOTS, "none")
        attempts = Attempts(group, perform, capability, SystemClock(), INCARNATION)
        servicer = WorkerServicer(attempts, Identity("bench", "bench", MODEL, model_url, ""))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server.grpc)
        await server.start()
        print(server.address, flush=True)
        await until_parent_ends()
        await server.grpc.stop(None)
