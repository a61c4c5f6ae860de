"""docs/scripted-claude.md: what it says of the language, and of what a program sees, is so."""

import re
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, MessageTokensCount

from demo.claude.script import Fault, Step, When
from tests.unit.demo.exact import exactly
from tests.unit.demo.serving import HELLO, MODEL, Serving, serving, tool

DOCUMENT = (Path(__file__).parents[3] / "docs/scripted-claude.md").read_text()
TABLE = DOCUMENT.partition("### What a program sees\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \|", TABLE, re.MULTILINE)
MESSAGES: Any = HELLO
TOOLS: Any = [tool("grep", "pattern")]


def script(more: str) -> dict[str, str]:
    step = f"say: Hello.\n    use: [grep: {{pattern: a pattern}}]\n    {more}\n"
    return {"hello.yaml": f"marker: hello\nsteps:\n  - {step}"}


def streaming(claude: Serving) -> Any:
    """A stream of the SDK's."""
    return claude.client.messages.stream(model=MODEL, max_tokens=99, tools=TOOLS, messages=MESSAGES)


async def outcome(claude: Serving, *, streaming: bool, patience: float) -> str:
    """What a call came to: an exception's name, or `message` and its stop reason.

    For `patience` seconds it waits for the next byte.
    """
    client = claude.client.with_options(timeout=httpx2.Timeout(10, read=patience)).messages
    asked: Any = {"model": MODEL, "max_tokens": 99, "tools": TOOLS, "messages": MESSAGES}
    try:
        if streaming:
            async with client.stream(**asked) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.create(**asked)
    except (anthropic.APIError, httpx2.HTTPError, AssertionError, ValueError) as error:
        status = getattr(error, "status_code", 0)
        return f"{type(error).__name__}{' 200' if status == 200 else ''}"
    assert isinstance(message, Message)
    return f"message {message.stop_reason}"


def test_every_kind_of_fault_has_a_row() -> None:
    assert len(ROWS) == TABLE.count("\n| `")
    places = " ".join(step for step, _, _ in ROWS)
    for name in Fault.model_fields.keys() - {"times", "seconds", "headers"}:
        assert f"{name}: " in places, f"docs/scripted-claude.md does not tell what a program sees of {name}"


@pytest.mark.parametrize("model", [Fault, Step, When])
def test_every_key_of_a_script_is_told(model: Any) -> None:
    for name in model.model_fields:
        assert re.search(rf"`{name}(`|: )", DOCUMENT), f"docs/scripted-claude.md says nothing of {name}"


@pytest.mark.parametrize(("step", "streamed", "whole"), ROWS, ids=[row[0] for row in ROWS])
async def test_a_program_sees_what_the_document_says(
    tmp_path: Path, step: str, streamed: str, whole: str
) -> None:
    seen = []
    for streaming in (True, False):
        folder = tmp_path / str(streaming)
        folder.mkdir()
        async with serving(folder, script(step)) as claude:
            patience = 0.5 if "stall" in step else 10
            seen.append(await outcome(claude, streaming=streaming, patience=patience))
    assert seen == [streamed, whole]


async def test_a_truncated_call_has_a_part_of_its_input_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, script("max_tokens: 7")) as claude, streaming(claude) as stream:
        message = await stream.get_final_message()
    call = message.content[-1]
    assert (message.stop_reason, call.type) == ("max_tokens", "tool_use")
    assert call.type == "tool_use"
    assert call.input != {"pattern": "a pattern"}, "silently partial: only stop_reason tells"


async def test_slow_tokens_come_one_after_the_other(tmp_path: Path) -> None:
    said = "One piece of the stream is as long as this, and here are more."
    text = {"hello.yaml": f"{{marker: hello, steps: [{{say: '{said}', pace: 0.1}}]}}"}
    pieces: list[str] = []
    async with serving(tmp_path, text) as claude, streaming(claude) as stream:
        async for piece in stream.text_stream:
            if not pieces:
                (asked,) = claude.requests()
                assert asked["state"] == "started", "the first piece is here before the last is said"
            pieces.append(piece)
    assert len(pieces) == 3
    assert "".join(pieces) == said


async def test_the_error_within_a_stream_is_of_the_kind_ordered(tmp_path: Path) -> None:
    fault = "faults: [{error_after: 4, error: api_error}]"
    async with serving(tmp_path, script(fault)) as claude, streaming(claude) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.get_final_message()
    body: Any = caught.value.body
    assert body["error"]["type"] == "api_error"


async def test_headers_of_a_refusal_are_the_scripts(tmp_path: Path) -> None:
    headers = "{anthropic-ratelimit-requests-remaining: '0', x-should-retry: 'false'}"
    async with serving(tmp_path, script(f"faults: [{{status: 429, headers: {headers}}}]")) as claude:
        # The SDK would ask again, but for the second header.
        with pytest.raises(anthropic.RateLimitError) as caught:
            await claude.client.with_options(max_retries=2).messages.create(
                model=MODEL, max_tokens=99, tools=TOOLS, messages=MESSAGES
            )
        assert caught.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert len(claude.requests()) == 1


async def test_tokens_are_counted_as_they_are_billed(tmp_path: Path) -> None:
    async with serving(tmp_path, script("")) as claude:
        cached: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        counted = await claude.client.messages.count_tokens(
            model=MODEL, system=cached, tools=TOOLS, messages=MESSAGES
        )
        assert not claude.requests(), "counting costs nothing"
        for _ in range(2):
            usage = (
                await claude.client.messages.create(
                    model=MODEL, max_tokens=99, system=cached, tools=TOOLS, messages=MESSAGES
                )
            ).usage
            parts = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
            assert sum(part or 0 for part in parts) == counted.input_tokens > 0
        assert usage.cache_read_input_tokens


async def test_counting_needs_no_script_and_refuses_what_a_message_would(tmp_path: Path) -> None:
    async with serving(tmp_path, script("")) as claude:
        unmarked: Any = [{"role": "user", "content": "Hello."}]
        count = claude.client.messages.count_tokens
        counted = await count(model=MODEL, messages=unmarked)
        exactly(MessageTokensCount, counted.model_dump())
        with pytest.raises(anthropic.NotFoundError, match="model: gpt"):
            await count(model="gpt", messages=unmarked)
        with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.role"):
            await count(model=MODEL, messages=[{"role": "assistant", "content": "Hello."}])
        with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs are not permitted"):
            await count(model=MODEL, messages=unmarked, extra_body={"max_tokens": 5})
        with pytest.raises(anthropic.AuthenticationError):
            await claude.client.with_options(api_key="another").messages.count_tokens(
                model=MODEL, messages=unmarked
            )


async def test_a_program_reads_what_is_left_and_the_sdk_waits_by_itself(tmp_path: Path) -> None:
    remaining = "anthropic-ratelimit-requests-remaining"
    asked: Any = {"model": MODEL, "max_tokens": 99, "tools": TOOLS, "messages": MESSAGES}
    async with serving(tmp_path, script(""), rate_limit=1) as claude:
        served = await claude.client.messages.with_raw_response.create(**asked)
        assert served.headers[remaining] == "0"
        with pytest.raises(anthropic.RateLimitError) as caught:
            await claude.client.messages.create(**asked)
        assert caught.value.response.headers["retry-after"] == "1"
        patient = claude.client.with_options(max_retries=3)
        assert (await patient.messages.create(**asked)).stop_reason == "tool_use"
        states = [request["state"] for request in claude.requests()]
        assert (states[:2], states[-1]) == (["finished", "refused"], "finished")
