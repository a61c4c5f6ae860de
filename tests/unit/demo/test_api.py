"""The API as the real client and the SDK's types see it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, ModelInfo, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse

from tests.unit.demo.exact import exactly
from tests.unit.demo.serving import HELLO, KEY, MODEL, VERSION, Serving, serving, tool

SCRIPT = """
marker: hello
steps:
  - when: {turn: 1}
    say: "Hello! Grüße, 世界 🎉, and a text that is long enough for several pieces."
    use:
      - read_file: {path: "a/ü.py", start: "1"}
      - list_files:
  - when: {turn: 2}
    stop: refusal
  - when: {turn: 3}
    say: "A text that is cut short, which takes more than ten tokens, as anyone can count."
    max_tokens: 10
"""
TOOLS: Any = [tool("list_files"), tool("read_file", "path", "start")]


@pytest.fixture
async def claude(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, {"hello.yaml": SCRIPT}) as server:
        yield server


def events_of(response: httpx2.Response) -> list[dict[str, Any]]:
    blocks = [block.split("\n") for block in response.text.removesuffix("\n\n").split("\n\n")]
    found = []
    for name, data in blocks:
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def after(turns: int) -> list[Any]:
    told = [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Go on."}]
    return [*HELLO, *told * turns]


async def test_a_streamed_reply_is_what_the_client_assembles(claude: Serving) -> None:
    messages: Any = HELLO
    async with claude.client.messages.stream(
        model=MODEL, max_tokens=1000, tools=TOOLS, messages=messages
    ) as stream:
        streamed = await stream.get_final_message()
        assert stream.response.headers["request-id"].startswith("req_")
    whole = await claude.client.messages.create(model=MODEL, max_tokens=1000, tools=TOOLS, messages=messages)
    text, first, second = streamed.content
    assert (text.type, first.type, second.type) == ("text", "tool_use", "tool_use")
    assert text.type == "text"
    assert text.text.startswith("Hello! Grüße, 世界 🎉")
    assert first.type == "tool_use"
    assert first.input == {"path": "a/ü.py", "start": "1"}
    assert streamed.stop_reason == whole.stop_reason == "tool_use"
    assert whole._request_id is not None
    ids = {"id": True, "content": {"__all__": {"id"}}}
    assert streamed.model_dump(exclude=ids) == whole.model_dump(exclude=ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_every_reply_is_exactly_of_the_sdks_types(claude: Serving, turns: int) -> None:
    body = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": after(turns)}
    whole = await claude.post(body)
    exactly(Message, whole.json())
    streamed = events_of(await claude.post({**body, "stream": True}))
    assert {"type": "ping"} in streamed
    for event in streamed:
        if event["type"] != "ping":
            exactly(RawMessageStreamEvent, event)
    kinds = [event["type"] for event in streamed]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")


async def test_a_tools_input_comes_in_pieces(claude: Serving) -> None:
    body = {"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": HELLO, "stream": True}
    deltas = [e for e in events_of(await claude.post(body)) if e["type"] == "content_block_delta"]
    first = [e["delta"]["partial_json"] for e in deltas if e["index"] == 1]
    assert first[0] == ""
    assert json.loads("".join(first)) == {"path": "a/ü.py", "start": "1"}
    assert len([e for e in deltas if e["index"] == 0]) > 1


async def test_refusals_and_cut_replies_say_why(claude: Serving) -> None:
    refused = await claude.client.messages.create(
        model=MODEL, max_tokens=10, tools=TOOLS, messages=after(1), stream=False
    )
    assert (refused.stop_reason, refused.content) == ("refusal", [])
    cut = await claude.client.messages.create(model=MODEL, max_tokens=1000, tools=TOOLS, messages=after(2))
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 10)


async def test_max_tokens_cuts_a_tools_input(claude: Serving) -> None:
    messages: Any = HELLO
    async with claude.client.messages.stream(
        model=MODEL, max_tokens=24, tools=TOOLS, messages=messages
    ) as stream:
        cut = await stream.get_final_message()
    assert cut.stop_reason == "max_tokens"
    assert cut.usage.output_tokens == 24
    assert cut.content[-1].type == "tool_use"
    assert cut.content[-1].input != {"path": "a/ü.py", "start": "1"}


async def test_models(claude: Serving) -> None:
    page = (await claude.http.get("/v1/models", headers=_headers())).json()
    assert page.keys() == {"data", "has_more", "first_id", "last_id"}
    for model in page["data"]:
        exactly(ModelInfo, model)
    assert (await claude.client.models.retrieve(MODEL)).line == "sonnet"
    assert MODEL in [model.id async for model in claude.client.models.list()]
    with pytest.raises(anthropic.NotFoundError, match="gpt"):
        await claude.client.models.retrieve("gpt")


def _headers(**others: str) -> dict[str, str]:
    return {"x-api-key": KEY, "anthropic-version": VERSION} | others


@pytest.mark.parametrize(
    ("headers", "status", "kind", "said"),
    [
        ({"anthropic-version": VERSION}, 401, "authentication_error", "API key is required"),
        (_headers(**{"x-api-key": "another"}), 401, "authentication_error", "invalid API key"),
        ({"authorization": "Bearer nö".encode()}, 401, "authentication_error", "invalid API key"),
        ({"x-api-key": KEY}, 400, "invalid_request_error", "anthropic-version"),
        (_headers(**{"anthropic-version": "1999-01-01"}), 400, "invalid_request_error", "1999-01-01"),
        (_headers(), 400, "invalid_request_error", "not valid JSON"),
    ],
)
async def test_every_error_has_the_apis_shape(
    claude: Serving, headers: Any, status: int, kind: str, said: str
) -> None:
    answer = await claude.http.post("/v1/messages", headers=headers, content=b"{")
    assert answer.status_code == status
    exactly(ErrorResponse, answer.json())
    assert answer.json()["error"]["type"] == kind
    assert said in answer.json()["error"]["message"]
    assert answer.json()["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/messages", 405), ("POST", "/v1/complete", 404), ("GET", "/", 404)],
)
async def test_what_is_not_served_is_an_error_too(
    claude: Serving, method: str, path: str, status: int
) -> None:
    answer = await claude.http.request(method, path, headers=_headers())
    assert answer.status_code == status
    exactly(ErrorResponse, answer.json())


async def test_the_clients_key_is_asked_for(claude: Serving) -> None:
    stranger = claude.client.with_options(api_key="another")
    messages: Any = HELLO
    with pytest.raises(anthropic.AuthenticationError) as caught:
        await stranger.messages.create(model=MODEL, max_tokens=10, messages=messages)
    assert caught.value.request_id is not None


async def test_a_reply_can_be_said_back_as_it_came(claude: Serving) -> None:
    said = (await claude.post({"model": MODEL, "max_tokens": 1000, "tools": TOOLS, "messages": HELLO})).json()
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "fine"}
        for block in said["content"]
        if block["type"] == "tool_use"
    ]
    told = [{"role": "assistant", "content": said["content"]}, {"role": "user", "content": results}]
    answer = await claude.post({"model": MODEL, "max_tokens": 9, "tools": TOOLS, "messages": [*HELLO, *told]})
    assert answer.json()["stop_reason"] == "refusal"
