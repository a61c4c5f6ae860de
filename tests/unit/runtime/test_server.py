"""A real server on loopback: its edge, its health, its reflection, a taken port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from codeframe.errors import CodeframeError, from_rpc_error
from codeframe.v1 import lead_pb2, plan_pb2
from services.runtime.channel import open_channel
from services.runtime.errors import MAX_VIOLATIONS, NotFound, ResourceExhausted
from services.runtime.process import CannotStart
from services.runtime.server import Server
from services.runtime.settings import ServerSettings
from tests.cuts import Cuts

SERVICE = "codeframe.v1.LeadService"


def settings(folder: Path, port: int = 0, host: str = "127.0.0.1") -> ServerSettings:
    return ServerSettings(
        host=host,
        port=port,
        data_dir=folder,
        ready_file=folder / "ready",
        exit_with_parent=False,
        log_format="human",
        log_level="info",
        drain_seconds=1,
    )


class Behaviour:
    """What the served methods do: a test replaces it before it calls."""

    def __init__(self) -> None:
        self.unary: Callable[[], Any] = lead_pb2.CreateRunResponse
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()

    async def create_run(self, request: lead_pb2.CreateRunRequest, context: object) -> Any:
        self.entered.set()
        try:
            answer = self.unary()
            return await answer if asyncio.iscoroutine(answer) else answer
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def read_artifact(
        self, request: lead_pb2.ReadArtifactRequest, context: object
    ) -> AsyncIterator[lead_pb2.ReadArtifactResponse]:
        try:
            yield lead_pb2.ReadArtifactResponse(data=b"first")
            answer = self.unary()
            if asyncio.iscoroutine(answer):
                await answer
        finally:
            self.closed.set()


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
async def server(tmp_path: Path, behaviour: Behaviour) -> AsyncIterator[Server]:
    server = Server(settings(tmp_path), services=(SERVICE,))
    handlers: dict[str, Any] = {
        "CreateRun": grpc.unary_unary_rpc_method_handler(
            behaviour.create_run,
            request_deserializer=lead_pb2.CreateRunRequest.FromString,
            response_serializer=lead_pb2.CreateRunResponse.SerializeToString,
        ),
        "ReadArtifact": grpc.unary_stream_rpc_method_handler(
            behaviour.read_artifact,
            request_deserializer=lead_pb2.ReadArtifactRequest.FromString,
            response_serializer=lead_pb2.ReadArtifactResponse.SerializeToString,
        ),
    }
    server.grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    await server.start()
    yield server
    await server.grpc.stop(None)


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(server.address) as channel:
        yield channel


def unary(channel: grpc.aio.Channel, method: str = "CreateRun") -> Any:
    return channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=lead_pb2.CreateRunRequest.SerializeToString,
        response_deserializer=lead_pb2.CreateRunResponse.FromString,
    )


def streaming(channel: grpc.aio.Channel) -> Any:
    return channel.unary_stream(
        f"/{SERVICE}/ReadArtifact",
        request_serializer=lead_pb2.ReadArtifactRequest.SerializeToString,
        response_deserializer=lead_pb2.ReadArtifactResponse.FromString,
    )


GOOD = lead_pb2.CreateRunRequest(
    request_id="r",
    repository="/repo",
    plan=plan_pb2.Plan(title="t", tasks=[plan_pb2.PlannedTask(id="a", title="t")]),
)
GOOD_READ = lead_pb2.ReadArtifactRequest(attempt_id="a", name="n")


async def refused(call: Any) -> CodeframeError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def test_a_good_request_is_answered(channel: grpc.aio.Channel) -> None:
    assert await unary(channel)(GOOD) == lead_pb2.CreateRunResponse()


async def test_a_peer_that_takes_its_time_to_shake_hands_is_reached(server: Server) -> None:
    async with Cuts(server.address, slow=0.5).listening() as proxy:
        async with open_channel(proxy.address) as channel:
            assert await unary(channel)(GOOD) == lead_pb2.CreateRunResponse()
        assert proxy.joined == 1, "at the first connection"


async def test_a_violation_names_every_field_by_its_path(
    channel: grpc.aio.Channel, behaviour: Behaviour
) -> None:
    request = lead_pb2.CreateRunRequest()
    request.CopyFrom(GOOD)
    request.plan.tasks.add(id="b")
    request.plan.tasks.add(id="/", title="t")
    request.labels["x" * 1000] = "y"
    error = await refused(unary(channel)(request))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST")
    fields = [each.field for each in error.violations]
    assert "plan.tasks[1].title" in fields
    assert "plan.tasks[2].id" in fields
    assert any(field.startswith('labels["xxx') for field in fields)
    assert "plan.tasks[1].title" in error.message
    assert not behaviour.entered.is_set()


async def test_ten_thousand_violations_still_arrive_as_our_error(channel: grpc.aio.Channel) -> None:
    plan = plan_pb2.Plan(title="t", tasks=[plan_pb2.PlannedTask(id="a") for _ in range(10_000)])
    error = await refused(
        unary(channel)(lead_pb2.CreateRunRequest(request_id="r", repository="/r", plan=plan))
    )
    assert error.reason == "ERROR_REASON_INVALID_REQUEST"
    assert error.violations[0].field == "plan.tasks[0].title"
    assert error.violations[-1].message == f"and {10_000 - len(error.violations) + 1} more"
    assert sum(len(each.field + each.message) for each in error.violations) < MAX_VIOLATIONS


async def test_a_refusal_has_its_reason_and_when_to_ask_again(
    channel: grpc.aio.Channel, behaviour: Behaviour
) -> None:
    async def refuse() -> None:
        raise ResourceExhausted("NO_FREE_SLOT", "every slot is taken", retry_after=timedelta(seconds=2))

    behaviour.unary = refuse
    error = await refused(unary(channel)(GOOD))
    assert (error.code, error.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ERROR_REASON_NO_FREE_SLOT",
    )
    assert (error.message, error.retry_after) == ("every slot is taken", timedelta(seconds=2))


async def test_a_message_too_long_for_a_header_is_clipped(
    channel: grpc.aio.Channel, behaviour: Behaviour
) -> None:
    async def refuse() -> None:
        raise NotFound("RUN_NOT_FOUND", "🦀" * 100_000)

    behaviour.unary = refuse
    error = await refused(unary(channel)(GOOD))
    assert error.reason == "ERROR_REASON_RUN_NOT_FOUND"
    assert error.message.endswith("🦀…")


def test_a_reason_that_the_protos_do_not_publish_is_a_fault() -> None:
    with pytest.raises(ValueError, match="ERROR_REASON_MADE_UP"):
        NotFound("MADE_UP", "x")


async def test_an_unknown_exception_is_logged_once_and_leaks_nothing(
    channel: grpc.aio.Channel, behaviour: Behaviour, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    async def fail() -> None:
        raise RuntimeError("a secret")

    behaviour.unary = fail
    error = await refused(unary(channel)(GOOD))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "ERROR_REASON_INTERNAL")
    assert "secret" not in str(error)
    incident = error.message.split()[1].strip(":")
    printed = capsys.readouterr().out
    assert printed.count("a call failed") == 1
    assert incident in printed


async def test_a_caller_that_goes_away_cancels_the_handler_and_is_no_error(
    channel: grpc.aio.Channel, behaviour: Behaviour, capsys: Any
) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    behaviour.unary = wait
    call = unary(channel)(GOOD)
    await behaviour.entered.wait()
    call.cancel()
    await behaviour.cancelled.wait()
    assert "a call failed" not in capsys.readouterr().out


async def test_a_stream_is_validated(channel: grpc.aio.Channel) -> None:
    error = await refused(
        streaming(channel)(lead_pb2.ReadArtifactRequest(attempt_id="a", name="n", offset=-1)).read()
    )
    assert [each.field for each in error.violations] == ["offset"]


async def test_an_exception_in_a_stream_is_translated_after_what_was_sent(
    channel: grpc.aio.Channel, behaviour: Behaviour
) -> None:
    async def refuse() -> None:
        raise NotFound("ARTIFACT_NOT_FOUND", "it went away")

    behaviour.unary = refuse
    call = streaming(channel)(GOOD_READ)
    assert (await call.read()).data == b"first"
    assert (await refused(call.read())).reason == "ERROR_REASON_ARTIFACT_NOT_FOUND"


async def test_a_cancelled_stream_closes_its_handler(channel: grpc.aio.Channel, behaviour: Behaviour) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    behaviour.unary = wait
    call = streaming(channel)(GOOD_READ)
    await call.read()
    call.cancel()
    await behaviour.closed.wait()


async def test_a_method_that_nothing_serves_is_our_error_too(channel: grpc.aio.Channel) -> None:
    error = await refused(unary(channel, "NoSuchMethod")(GOOD))
    assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "ERROR_REASON_NOT_SERVED")


async def test_health_can_be_checked_and_watched(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == serving
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await watch.read()).status == serving
    watch.cancel()


async def test_reflection_lists_what_is_served(channel: grpc.aio.Channel) -> None:
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflection.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = (await call.read()).list_services_response.service
    assert {SERVICE, "grpc.health.v1.Health"} <= {each.name for each in listed}
    call.cancel()


async def test_a_burst_of_calls_is_answered_whole(channel: grpc.aio.Channel) -> None:
    call = unary(channel)
    async with asyncio.TaskGroup() as group:
        for _ in range(3000):
            group.create_task(_await(call(GOOD)))


async def _await(call: Any) -> None:
    await call


async def test_a_taken_port_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    port = int(server.address.rsplit(":", 1)[1])
    with pytest.raises(CannotStart, match=f"cannot bind 127.0.0.1:{port}: .*--port"):
        await Server(settings(tmp_path, port), services=()).run()
    assert (tmp_path / "ready").read_text() == f"{server.address}\n"


async def test_a_ready_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot write the ready file"):
        await Server(settings(tmp_path / "missing"), services=()).run()


async def test_ipv6_loopback(tmp_path: Path) -> None:
    server = Server(settings(tmp_path, host="::1"), services=())
    await server.start()
    assert server.address.startswith("[::1]:")
    async with open_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
    await server.grpc.stop(None)
