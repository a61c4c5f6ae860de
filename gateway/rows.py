"""Runs, tasks, attempts, workers and artifacts: each RPC's response as ProtoJSON."""

from collections.abc import AsyncIterator, Awaitable, Callable

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from codeframe.client import Client, CodeframeError
from codeframe.v1 import lead_pb2
from gateway import query
from gateway.refusals import away, response

_PAGE = ("page_size", "page_token")


def proto_json(message: Message) -> str:
    """A message on one line, with the protos' field names, zeros and empty lists included."""
    return MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


class Rows:
    """The JSON endpoints over one client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def routes(self) -> list[Route]:
        """Where each is served."""
        attempt = "/v1/attempts/{attempt}/artifacts"
        return [
            Route("/v1/runs", self._answering(self._runs)),
            Route("/v1/runs/{run}", self._answering(self._run)),
            Route("/v1/runs/{run}/tasks", self._answering(self._tasks)),
            Route("/v1/runs/{run}/attempts", self._answering(self._attempts)),
            Route(attempt, self._answering(self._artifacts)),
            Route(attempt + "/{name}", self._answering(self._artifact)),
            Route("/v1/workers", self._answering(self._workers)),
        ]

    def _answering(
        self, ask: Callable[[Request], Awaitable[Message | Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                answer = await ask(request)
            except CodeframeError as error:
                return response(away(error, self._client.address))
            if isinstance(answer, Response):
                return answer
            return Response(proto_json(answer), media_type="application/json")

        return endpoint

    async def _runs(self, request: Request) -> Message:
        query.check(request.query_params, ("project", *_PAGE))
        return await self._client.list_runs(
            lead_pb2.ListRunsRequest(
                project=request.query_params.get("project", ""),
                page_size=query.number(request.query_params, "page_size"),
                page_token=request.query_params.get("page_token", ""),
            )
        )

    async def _run(self, request: Request) -> Message:
        query.check(request.query_params, ())
        return lead_pb2.GetRunResponse(run=await self._client.get_run(request.path_params["run"]))

    async def _tasks(self, request: Request) -> Message:
        query.check(request.query_params, _PAGE)
        return await self._client.list_tasks(
            lead_pb2.ListTasksRequest(
                run_id=request.path_params["run"],
                page_size=query.number(request.query_params, "page_size"),
                page_token=request.query_params.get("page_token", ""),
            )
        )

    async def _attempts(self, request: Request) -> Message:
        query.check(request.query_params, ("task_id", *_PAGE))
        return await self._client.list_attempts(
            lead_pb2.ListAttemptsRequest(
                run_id=request.path_params["run"],
                task_id=request.query_params.get("task_id", ""),
                page_size=query.number(request.query_params, "page_size"),
                page_token=request.query_params.get("page_token", ""),
            )
        )

    async def _workers(self, request: Request) -> Message:
        query.check(request.query_params, _PAGE)
        return await self._client.list_workers(
            lead_pb2.ListWorkersRequest(
                page_size=query.number(request.query_params, "page_size"),
                page_token=request.query_params.get("page_token", ""),
            )
        )

    async def _artifacts(self, request: Request) -> Message:
        query.check(request.query_params, ())
        artifacts = await self._client.list_artifacts(request.path_params["attempt"])
        return lead_pb2.ListArtifactsResponse(artifacts=artifacts)

    async def _artifact(self, request: Request) -> Response:
        query.check(request.query_params, ())
        attempt, name = request.path_params["attempt"], request.path_params["name"]
        chunks = self._client.read_artifact(attempt, name)
        # The first chunk is awaited here, so that a refusal still has a status of its own.
        first = await anext(chunks, b"")
        listed = {each.name: each for each in await self._client.list_artifacts(attempt)}
        headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
        if name in listed:
            headers["Content-Length"] = str(listed[name].size)
        media_type = listed[name].media_type if name in listed else "application/octet-stream"
        return StreamingResponse(_joined(first, chunks), media_type=media_type, headers=headers)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
