"""What goes wrong where a script orders it, as the real client meets it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message

from tests.unit.demo.serving import HELLO, MODEL, Serving, serving, tool

MESSAGES: Any = HELLO
TOOLS: Any = [tool("grep", "pattern")]


@asynccontextmanager
async def faulty(folder: Path, *faults: str, pace: float = 0) -> AsyncIterator[Serving]:
    step = f"{{say: Hello., use: [grep: {{pattern: x}}], pace: {pace}, faults: [{', '.join(faults)}]}}"
    async with serving(folder, {"hello.yaml": f"{{marker: hello, steps: [{step}]}}"}) as server:
        yield server


async def streamed(claude: Serving) -> Message:
    client = claude.client.messages
    async with client.stream(model=MODEL, max_tokens=99, tools=TOOLS, messages=MESSAGES) as stream:
        return await stream.get_final_message()


async def whole(claude: Serving) -> Message:
    return await claude.client.messages.create(model=MODEL, max_tokens=99, tools=TOOLS, messages=MESSAGES)


def states(claude: Serving) -> list[object]:
    return [request["state"] for request in claude.requests()]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
async def test_a_status_so_many_times(tmp_path: Path, status: int, error: type[anthropic.APIError]) -> None:
    async with faulty(tmp_path, f"{{status: {status}, retry_after: 2.5, times: 2}}") as claude:
        for _ in range(2):
            with pytest.raises(error) as caught:
                await streamed(claude)
            assert isinstance(caught.value, anthropic.APIStatusError)
            assert caught.value.status_code == status
            assert caught.value.response.headers["retry-after"] == "2.5"
        assert (await streamed(claude)).stop_reason == "tool_use"
        assert states(claude) == ["refused", "refused", "finished"]
        assert claude.bill.summary().paid_twice == []


async def test_faults_strike_one_after_the_other(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{status: 529}", "{drop_after: 1}", "{status: 500}") as claude:
        for expected in (529, None, 500):
            with pytest.raises((anthropic.APIStatusError, httpx2.RemoteProtocolError)) as caught:
                await streamed(claude)
            assert getattr(caught.value, "status_code", None) == expected
        await streamed(claude)


@pytest.mark.parametrize("place", [1, 4, 999])
async def test_a_dropped_connection(tmp_path: Path, place: int) -> None:
    async with faulty(tmp_path, f"{{drop_after: {place}, times: 2}}") as claude:
        with pytest.raises(httpx2.RemoteProtocolError):
            await streamed(claude)
        with pytest.raises((httpx2.RemoteProtocolError, anthropic.APIConnectionError)):
            await whole(claude)
        await streamed(claude)
        assert states(claude) == ["broken", "broken", "finished"]


async def test_a_stream_that_ends_too_early_ends_cleanly(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{end_after: 4}") as claude:
        message = await streamed(claude)
        assert message.stop_reason is None
        assert states(claude) == ["broken"]


async def test_an_error_within_a_stream(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{error_after: 4}") as claude:
        with pytest.raises(anthropic.APIStatusError, match="overloaded_error") as caught:
            await streamed(claude)
        assert caught.value.status_code == 200
        assert states(claude) == ["broken"]


async def test_an_empty_reply(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{empty: true, times: 2}") as claude:
        answer = await claude.post(
            {"model": MODEL, "max_tokens": 9, "tools": TOOLS, "messages": HELLO, "stream": True}
        )
        assert (answer.status_code, answer.content) == (200, b"")
        with pytest.raises(AssertionError):
            await streamed(claude)


async def test_broken_tool_json(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{garble: true}") as claude:
        with pytest.raises(ValueError, match="Unable to parse tool parameter JSON"):
            await streamed(claude)


async def test_a_stall_ends_by_itself(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{stall_after: 3, seconds: 0.2, times: 2}") as claude:
        loop = asyncio.get_running_loop()
        for ask in (streamed, whole):
            start = loop.time()
            assert (await ask(claude)).stop_reason == "tool_use"
            assert loop.time() - start >= 0.2
        assert states(claude) == ["finished", "finished"]


async def test_a_client_that_waits_no_longer_ends_the_stall(tmp_path: Path) -> None:
    async with faulty(tmp_path, "{stall_after: 3}") as claude:
        impatient = claude.client.with_options(timeout=httpx2.Timeout(10, read=0.5))
        with pytest.raises((httpx2.ReadTimeout, anthropic.APITimeoutError)):
            async with impatient.messages.stream(
                model=MODEL, max_tokens=99, tools=TOOLS, messages=MESSAGES
            ) as stream:
                await stream.get_final_message()
        await asyncio.wait_for(claude.bill.an_end.wait(), 30)
        assert states(claude) == ["broken"]


async def test_a_client_that_leaves_pays_for_what_was_said(tmp_path: Path) -> None:
    async with faulty(tmp_path, pace=0.05) as claude:
        body = {"model": MODEL, "max_tokens": 99, "tools": TOOLS, "messages": HELLO}
        headers = {"authorization": "Bearer a-key", "anthropic-version": "2026-10-21"}
        async with claude.http.stream(
            "POST", "/v1/messages", content=json.dumps(body | {"stream": True}), headers=headers
        ) as answer:
            async for line in answer.aiter_lines():
                if "text_delta" in line:
                    break
        await asyncio.wait_for(claude.bill.an_end.wait(), 30)
        assert states(claude) == ["broken"]
        (request,) = claude.requests()
        assert request["input_tokens"] == (await whole(claude)).usage.input_tokens
        assert request["output_tokens"] in (2, 3)


async def test_a_slow_step_takes_its_time(tmp_path: Path) -> None:
    async with faulty(tmp_path, pace=0.1) as claude:
        loop = asyncio.get_running_loop()
        for ask in (streamed, whole):
            start = loop.time()
            await ask(claude)
            assert loop.time() - start >= 0.2  # one piece of text, one of JSON
