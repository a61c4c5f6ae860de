"""Requests at fault, each answered by a 400 that names the field."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from demo.claude.errors import ApiError
from demo.claude.request import read_request
from tests.unit.demo.serving import HELLO, MODEL, Serving, serving, tool

SCRIPT = "{marker: hello, steps: [{say: Hello.}]}"
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "grep", "input": {}}]}
USES = {
    "role": "assistant",
    "content": [
        {"type": "tool_use", "id": "t1", "name": "grep", "input": {}},
        {"type": "tool_use", "id": "t2", "name": "grep", "input": {}},
    ],
}


def results(*ids: str, **others: object) -> list[dict[str, object]]:
    return [{"type": "tool_result", "tool_use_id": id_, "content": "x", **others} for id_ in ids]


def result(*ids: str, **others: object) -> dict[str, object]:
    return {"role": "user", "content": results(*ids, **others)}


def text(role: str, said: str = "x") -> dict[str, object]:
    return {"role": role, "content": said}


def schema(**others: object) -> dict[str, object]:
    return {**tool("grep"), "input_schema": {"type": "object", "additionalProperties": False, **others}}


@pytest.fixture
async def claude(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path, {"hello.yaml": SCRIPT}) as server:
        yield server


CACHED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "model: Field required"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than 0"),
        ({"max_tokens": -1}, "max_tokens: "),
        ({"max_tokens": 10_000_000}, "max_tokens: "),
        ({"max_tokens": "10"}, "max_tokens: Input should be a valid integer"),
        ({"messages": []}, "messages: "),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"top_p": 0.9}, "top_p: Extra inputs are not permitted"),
        ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"stop_sequences": ["x"]}, "stop_sequences: "),
        ({"container": "c"}, "container: "),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_config.format: "),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.type: "),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"system": [{"type": "image"}]}, "system.0.type: "),
        ({"messages": [text("robot")]}, "messages.0.role: "),
        ({"messages": [text("system")]}, "messages.0.role: "),
        ({"messages": [text("assistant"), text("user")]}, "messages.0.role: the first message"),
        ({"messages": [*HELLO, text("assistant")]}, "messages.1.role: the conversation must end"),
        ({"messages": [text("user", "")]}, "messages.0.content.0.text: "),
        ({"messages": [text("user", " \n")]}, "messages.0.content.0.text: "),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content: "),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content: "),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{**text("user"), "name": "Ann"}]}, "messages.0.name: Extra inputs"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "bold": True}]}]},
            "messages.0.content.0.text.bold: Extra inputs",
        ),
        ({"messages": [text("user"), USE, text("user")]}, "messages.1: `tool_use` ids were found without"),
        ({"messages": [text("user"), USES, result("t1")]}, "immediately after: t2."),
        ({"messages": [text("user"), USE, result("t9")]}, "messages.2.content.0: unexpected `tool_use_id`"),
        ({"messages": [text("user"), USE, result("t1", "t1")]}, "messages.2.content.1: each `tool_use` must"),
        ({"messages": [result("t1")]}, "messages.0.content.0: unexpected `tool_use_id`"),
        (
            {"messages": [text("user"), USE, result("t1"), USE, result("t1")]},
            "messages.3: `tool_use` ids must be unique",
        ),
        (
            {
                "messages": [
                    text("user"),
                    USE,
                    {"role": "user", "content": [CACHED, *results("t1")]},
                ]
            },
            "messages.2.content.1: `tool_result` blocks must come before",
        ),
        ({"messages": [{**USE, "role": "user"}]}, "messages.0.content.0: `tool_use` blocks can only be in"),
        (
            {"messages": [text("user"), {**result("t1"), "role": "assistant"}, text("user")]},
            "messages.1.content.0: `tool_result` blocks can only be in",
        ),
        (
            {"messages": [text("user"), USE, result("t1", error=True)]},
            "messages.2.content.0.tool_result.error: ",
        ),
        ({"tools": [{"name": "grep"}]}, "tools.0.input_schema: Field required"),
        ({"tools": [{**tool("grep"), "name": "my grep"}]}, "tools.0.name: "),
        ({"tools": [tool("grep"), tool("grep")]}, "tools.1.name: Tool names must be unique"),
        ({"tools": [{**tool("grep"), "type": "bash_20250124"}]}, "tools.0.type: "),
        ({"tools": [schema(type="string")]}, "tools.0.input_schema.type: "),
        ({"tools": [schema(additionalProperties=True)]}, "tools.0.input_schema: For 'object' type"),
        (
            {"tools": [schema(properties={"at": {"type": "object", "properties": {}}})]},
            "tools.0.input_schema.properties.at: For 'object' type",
        ),
        (
            {"tools": [schema(properties={"n": {"type": "integer", "minimum": 1}})]},
            "tools.0.input_schema.properties.n: a strict schema does not support: minimum",
        ),
        ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while providing tools"),
        ({"tools": [tool("grep")], "tool_choice": {"type": "some"}}, "tool_choice: "),
        (
            {"tools": [tool("grep")], "tool_choice": {"type": "tool", "name": "sed"}},
            "tool_choice.name: Tool 'sed' not found",
        ),
        ({"system": [CACHED] * 5}, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        ({"cache_control": {"type": "ephemeral"}, "system": [CACHED] * 4}, "Found 5."),
        ({"system": [{**CACHED, "cache_control": {"type": "forever"}}]}, "system.0.cache_control.type: "),
    ],
)
def test_a_request_at_fault_is_refused_by_name(changes: Any, said: str) -> None:
    body = {"model": MODEL, "max_tokens": 10, "messages": HELLO} | changes
    with pytest.raises(ApiError) as caught:
        read_request(json.dumps({name: value for name, value in body.items() if value is not None}).encode())
    assert caught.value.status == 400
    assert said in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "Be kind."},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"metadata": {"user_id": "u"}, "service_tier": "standard_only"},
        {"tools": [tool("grep")], "tool_choice": {"type": "tool", "name": "grep"}},
        {"tools": [tool("grep")], "messages": [*HELLO, USES, result("t2", "t1", is_error=True)]},
        {"tools": [tool("grep")], "messages": [*HELLO, USE, result("t1"), text("user")]},
        {"messages": [*HELLO, text("user", "And more.")]},
    ],
)
def test_a_request_without_fault_is_taken(changes: Any) -> None:
    body = {"model": MODEL, "max_tokens": 10, "messages": HELLO} | changes
    assert read_request(json.dumps(body).encode()).model == MODEL


async def test_the_client_is_told_what_is_at_fault(claude: Serving) -> None:
    messages: Any = HELLO
    with pytest.raises(anthropic.BadRequestError, match="top_k: Extra inputs") as caught:
        await claude.client.messages.create(
            model=MODEL, max_tokens=10, messages=messages, extra_body={"top_k": 3}
        )
    assert caught.value.type == "invalid_request_error"
    assert claude.requests()[0]["state"] == "refused"


async def test_an_unknown_model_is_not_found(claude: Serving) -> None:
    messages: Any = HELLO
    with pytest.raises(anthropic.NotFoundError, match="model: claude-2"):
        await claude.client.messages.create(model="claude-2", max_tokens=10, messages=messages)


async def test_a_body_over_the_limit_is_refused(claude: Serving) -> None:
    answer = await claude.post({"model": MODEL, "max_tokens": 10, "messages": [text("user", "x" * 2**25)]})
    assert answer.status_code == 413


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ApiError, match="object"):
        read_request(b"[]")
