"""A watch that goes on by itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from codeframe.client.retry import SNAPSHOT_REASONS, RetryPolicy
from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import lead_pb2, status_pb2, status_pb2_grpc


@dataclass(frozen=True, slots=True)
class SnapshotStarted:
    """Rows follow, closed by a bookmark with `snapshot_end`: forget what you hold."""


@dataclass(frozen=True, slots=True)
class WatchBroken:
    """The stream broke, `failures` times in a row by now. In `delay` seconds it goes on from where it was."""

    error: CodeframeError
    failures: int
    delay: float


WatchItem = (
    SnapshotStarted
    | WatchBroken
    | lead_pb2.Run
    | lead_pb2.Task
    | lead_pb2.Worker
    | status_pb2.JournaledEvent
    | status_pb2.Bookmark
)


class Watch:
    """Events, each once and in order, across connections that drop.

        async with client.watch(run_ids=[run_id]) as watch:
            async for item in watch:
                ...

    It ends by itself only where runs or tasks are named, once all of them are final. Leaving
    the `async with` cancels the call; leaving the `async for` alone does not. One task reads it.

    A cursor that the lead no longer serves (CURSOR_EXPIRED, LOG_CHANGED, CURSOR_AHEAD) makes it
    start again from a snapshot, told by SnapshotStarted. Raises CodeframeError for a refusal
    that asking again does not cure, such as RUN_NOT_FOUND.
    """

    def __init__(
        self,
        stub: "status_pb2_grpc.StatusServiceAsyncStub",
        request: status_pb2.WatchEventsRequest,
        policy: RetryPolicy,
        chance: Callable[[], float],
    ) -> None:
        self._stub = stub
        self._request = request
        self._policy = policy
        self._chance = chance
        self._batches = self._follow()
        self._batch: list[WatchItem] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchItem:
        while not self._batch:
            self._batch = (await anext(self._batches))[::-1]
        return self._batch.pop()

    def batches(self) -> AsyncIterator[list[WatchItem]]:
        """The same items, in the batches in which they came."""
        return self._batches

    async def aclose(self) -> None:
        """Cancel the call. The watch is over."""
        await self._batches.aclose()

    async def _follow(self) -> AsyncGenerator[list[WatchItem], None]:
        cursor = self._request.cursor if self._request.HasField("cursor") else None
        failures = 0
        while True:
            fresh = cursor is None
            call = self._stub.WatchEvents(self._start(cursor))
            try:
                async for response in call:
                    failures = 0
                    cursor = _last_cursor(response) or cursor
                    items = _items(response)
                    yield [SnapshotStarted(), *items] if fresh else items
                    fresh = False
                if self._request.run_ids:
                    return
                error = CodeframeError(grpc.StatusCode.UNAVAILABLE, "", "the lead ended the watch")
            except grpc.aio.AioRpcError as refused:
                error = from_rpc_error(refused)
            finally:
                call.cancel()
            if cursor is not None and error.reason in SNAPSHOT_REASONS:
                cursor = None
                continue
            failures += 1
            delay = self._policy.delay(error, failures, self._chance())
            if delay is None:
                raise error
            yield [WatchBroken(error, failures, delay)]
            await asyncio.sleep(delay)

    def _start(self, cursor: str | None) -> status_pb2.WatchEventsRequest:
        request = status_pb2.WatchEventsRequest()
        request.CopyFrom(self._request)
        if cursor is None:
            request.snapshot.SetInParent()
        else:
            request.cursor = cursor
        return request


def _last_cursor(response: status_pb2.WatchEventsResponse) -> str:
    """The cursor of a reader that has read the response; empty inside a snapshot."""
    if response.events and (response.bookmark.snapshot_end or not response.HasField("bookmark")):
        return response.events[-1].cursor
    return response.bookmark.cursor


def _items(response: status_pb2.WatchEventsResponse) -> list[WatchItem]:
    """The response's items in reading order, less events that this version does not know."""
    items: list[WatchItem] = [*response.runs, *response.tasks, *response.workers]
    bookmark = [response.bookmark] if response.HasField("bookmark") else []
    events = [event for event in response.events if event.event.WhichOneof("payload")]
    return [*items, *bookmark, *events] if response.bookmark.snapshot_end else [*items, *events, *bookmark]
