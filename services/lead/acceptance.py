"""A worker's result is accepted once all that it speaks of is held here."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

import grpc.aio

from codeframe.errors import from_rpc_error
from codeframe.v1 import evidence_pb2, worker_pb2, worker_pb2_grpc
from services.lead.artifacts import ArtifactDiffers, ArtifactStore
from services.lead.integrator import Integrator
from services.lead.machine.events import ArtifactHeld
from services.lead.machine.happenings import Ended
from services.lead.public import outcome_from_proto, usage_from_proto
from services.lead.silence import Lost, Silence
from services.runtime.git import CommitNotFound

MESSAGE_LIMIT = 16_000
"""Characters that are kept of what a worker says."""

PATHS_LIMIT = 24_000
"""Bytes of the paths in an event, so that none nears 64 KiB."""

TRIES = 10
"""Answers of a kind that should not be, before the attempt has failed."""


class Unusable(Exception):
    """What the worker answers cannot be right."""


class Acceptance:
    """Takes the result of one attempt from its worker, whose artifacts are copied, and commit fetched."""

    def __init__(
        self,
        attempt_id: str,
        run_id: str,
        worker: "worker_pb2_grpc.WorkerServiceAsyncStub",
        silence: Silence,
        integrator: Integrator,
        artifacts: ArtifactStore,
    ) -> None:
        self._attempt_id = attempt_id
        self._run_id = run_id
        self._worker = worker
        self._silence = silence
        self._integrator = integrator
        self._artifacts = artifacts

    async def accept(self, result: evidence_pb2.TaskResult) -> Ended:
        """The end that a result tells, once all that it speaks of is held here.

        Raises Lost and Unusable; GitError while its repository cannot be reached, ArtifactError while
        an artifact cannot be stored.
        """
        held = [await self._copy(artifact) for artifact in result.artifacts]
        tree = ""
        if result.commit:
            try:
                tree = await self._integrator.tree_of(result.commit, result.branch)
            except CommitNotFound as error:
                raise Unusable(f"the commit that the worker told was not pushed: {error}") from None
        return Ended(
            attempt_id=self._attempt_id,
            outcome=outcome_from_proto(result.outcome),
            message=result.message[:MESSAGE_LIMIT],
            time=datetime.now(UTC),
            result=result.SerializeToString(),
            commit=result.commit,
            base=result.base_commit,
            tree=tree,
            commit_subject=result.commit_subject,
            files=_fitting(change.path for change in result.files[:100]),
            file_count=result.file_count or len(result.files),
            corrections=result.corrections,
            passed=result.verifications[-1].passed if result.verifications else 0,
            artifacts=tuple(held),
            usage=tuple(usage_from_proto(each) for each in result.usage),
            wall_time=result.wall_time.ToTimedelta(),
        )

    async def _copy(self, artifact: evidence_pb2.Artifact) -> ArtifactHeld:
        """Copy an artifact, asking again until its bytes are whole. Raises Lost, Unusable."""
        held = ArtifactHeld(
            artifact.name, artifact.media_type, artifact.size, artifact.sha256, artifact.truncated
        )
        failures, differed = 0, 0
        while True:
            asked = self._silence.now()
            try:
                await self._artifacts.write(self._run_id, self._attempt_id, held, self._read(artifact.name))
                return held
            except ArtifactDiffers as error:
                differed += 1
                if differed == TRIES:
                    raise Unusable(str(error)) from None
                await asyncio.sleep(self._silence.patience.pause(differed))
            except grpc.aio.AioRpcError as caught:
                error_told = from_rpc_error(caught)
                if error_told.code is not grpc.StatusCode.UNAVAILABLE and error_told.reason:
                    raise Lost(f"{artifact.name} cannot be read: {error_told.message}") from None
                await self._silence.wait(error_told, asked, failures)
                failures += 1

    async def _read(self, name: str) -> AsyncIterator[bytes]:
        request = worker_pb2.WorkerServiceReadArtifactRequest(attempt_id=self._attempt_id, name=name)
        call = self._worker.ReadArtifact(request)
        try:
            async for response in call:
                self._silence.broken()
                yield response.data
        finally:
            call.cancel()


def _fitting(paths: Iterable[str]) -> tuple[str, ...]:
    """The first paths, as many as an event may carry."""
    left, fitting = PATHS_LIMIT, list[str]()
    for path in paths:
        left -= len(path.encode(errors="replace"))
        if left < 0:
            break
        fitting.append(path)
    return tuple(fitting)
