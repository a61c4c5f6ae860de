"""The WorkerService: between its messages and the attempts; it decides nothing."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codeframe.v1 import worker_pb2, worker_pb2_grpc
from services.workers.attempts import Attempts
from services.workers.model.gate import Pause
from services.workers.translation import (
    read_cancel,
    read_request,
    write_batch,
    write_pause,
    write_result,
)

CHUNK = 256 << 10


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker tells of itself besides what it can do."""

    name: str
    version: str
    model: str
    model_endpoint: str
    key_fingerprint: str
    labels: Mapping[str, str] = field(default_factory=dict)


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """Serves one process's attempts. protovalidate has seen each request before."""

    def __init__(
        self,
        attempts: Attempts,
        identity: Identity,
        pauses: Callable[[], Sequence[Pause]] = lambda: (),
    ) -> None:
        """`pauses` tells what the provider has paused now; nothing, where there is no model."""
        self._attempts = attempts
        self._identity = identity
        self._pauses = pauses

    async def ExecuteTask(
        self, request: worker_pb2.ExecuteTaskRequest, context: Any
    ) -> worker_pb2.ExecuteTaskResponse:
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        result = await self._attempts.execute(read_request(request), request.incarnation, digest)
        return worker_pb2.ExecuteTaskResponse(result=write_result(result))

    async def WatchAttempt(
        self, request: worker_pb2.WatchAttemptRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WatchAttemptResponse]:
        watched = self._attempts.watch(request.attempt_id, request.incarnation, request.after_sequence)
        agent = f"{self._identity.name}/{watched.role}"
        async for batch in watched.batches:
            yield write_batch(batch, watched.task_id, agent, self._pauses())

    async def CancelAttempt(
        self, request: worker_pb2.CancelAttemptRequest, context: Any
    ) -> worker_pb2.CancelAttemptResponse:
        outcome = read_cancel(request.reason)
        ended = await self._attempts.cancel(request.attempt_id, request.incarnation, outcome)
        if ended is None:
            return worker_pb2.CancelAttemptResponse()
        result = write_result(ended)
        return worker_pb2.CancelAttemptResponse(outcome=result.outcome, result=result)

    async def ReadArtifact(
        self, request: worker_pb2.WorkerServiceReadArtifactRequest, context: Any
    ) -> AsyncIterator[worker_pb2.WorkerServiceReadArtifactResponse]:
        data = memoryview(self._attempts.artifact(request.attempt_id, request.name).data)
        for start in range(request.offset, len(data), CHUNK):
            yield worker_pb2.WorkerServiceReadArtifactResponse(data=bytes(data[start : start + CHUNK]))

    async def ReleaseAttempt(
        self, request: worker_pb2.ReleaseAttemptRequest, context: Any
    ) -> worker_pb2.ReleaseAttemptResponse:
        self._attempts.release(request.attempt_id)
        return worker_pb2.ReleaseAttemptResponse()

    async def DescribeWorker(
        self, request: worker_pb2.DescribeWorkerRequest, context: Any
    ) -> worker_pb2.DescribeWorkerResponse:
        identity, can = self._identity, self._attempts.capability
        return worker_pb2.DescribeWorkerResponse(
            name=identity.name,
            incarnation=self._attempts.incarnation,
            roles=can.roles,
            slots=can.slots,
            in_flight=self._attempts.in_flight,
            unreleased=self._attempts.unreleased,
            draining=self._attempts.draining,
            sandbox_mode=can.sandbox_mode,
            problem=can.sandbox_problem or can.model_problem,
            model=identity.model,
            key_fingerprint=identity.key_fingerprint,
            labels=identity.labels,
            version=identity.version,
            model_endpoint=identity.model_endpoint,
            provider_pauses=[write_pause(pause) for pause in self._pauses()],
        )
