"""ClaudeModel against a real HTTP server that fails in every way that a provider can."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.workers.model.claude import ClaudeModel
from services.workers.model.conversation import (
    Conversation,
    ConversationTooLong,
    Reply,
    Stop,
    ToolResult,
    ToolSpec,
    UserMessage,
)
from services.workers.model.retry import Patience
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.work import ModelUsage
from tests.unit.demo import serving as scripted_claude
from tests.unit.workers.scripted_provider import (
    Answer,
    Event,
    ScriptedProvider,
    block,
    cut,
    end,
    provider,
    says,
    sse,
    start,
    status,
    stream,
    text,
    tool_use,
)

SPEC = ToolSpec(
    "look", "Look.", {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
)
ASKED = Conversation("claude-test", "You are a test.", (SPEC,), (UserMessage(text="Do it."),))
BROKEN = ModelUsage("claude-test-1", 1, 10, 1, 5, 3, incomplete=True, cost_known=False)
WHOLE = ModelUsage("claude-test-1", 1, 10, 7, 5, 3, cost_known=False)
KEY = "sk-test"


class HandClock:
    """Time that goes on only where somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, 12, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Observer:
    """Keeps what a turn tells; waiting moves the clock and nothing else."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.usages: list[ModelUsage] = []
        self.request_ids: list[str] = []
        self.waits: list[float] = []
        self.reasons: list[str] = []
        self.tries, self.may_try = 0, 1000
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    def begin_try(self) -> None:
        self.tries += 1
        if self.tries > self.may_try:
            raise AttemptFailed(Outcome.ALLOWANCE_SPENT, "all is spent")

    def paid(self, usage: ModelUsage, request_id: str) -> None:
        self.usages.append(usage)
        self.request_ids.append(request_id)

    async def wait(self, seconds: float, reason: str) -> None:
        self.waits.append(seconds)
        self.reasons.append(reason)
        if self.meanwhile is not None:
            await self.meanwhile()
        await self.clock.sleep(seconds)


class Asked:
    """A model at a scripted provider, and who asks it."""

    def __init__(self, served: ScriptedProvider, model: ClaudeModel, observer: Observer) -> None:
        self.served = served
        self.model = model
        self.observer = observer

    async def turn(self, conversation: Conversation = ASKED) -> Reply:
        return await self.model.turn(conversation, self.observer)

    async def failure(self) -> AttemptFailed:
        with pytest.raises(AttemptFailed) as raised:
            await self.turn()
        return raised.value


@asynccontextmanager
async def asking(*answers: Answer, stall: float = 5.0, chance: float = 0.5) -> AsyncIterator[Asked]:
    clock = HandClock()
    async with provider(*answers) as served:
        patience = Patience(stall=stall)
        model = ClaudeModel(KEY, served.url, clock=clock, chance=lambda: chance, patience=patience)
        try:
            yield Asked(served, model, Observer(clock))
        finally:
            await model.close()


async def test_a_reply_is_put_together_with_its_usage_and_request_id() -> None:
    async with asking(stream(start(), *text("I am done."), *end())) as asked:
        reply = await asked.turn()
    assert reply == Reply(
        ({"type": "text", "text": "I am done."},), "I am done.", (), Stop.END_TURN, "req_ok"
    )
    assert asked.observer.usages == [WHOLE]
    assert asked.observer.request_ids == ["req_ok"]


async def test_a_scripted_stand_in_says_so_and_anything_else_is_live(tmp_path: Path) -> None:
    script = 'marker: hello\nsteps:\n  - say: "Hello."\n'
    async with scripted_claude.serving(tmp_path, {"hello.yaml": script}) as claude:
        clock = HandClock()
        model = ClaudeModel(scripted_claude.KEY, claude.url, clock=clock, chance=lambda: 0.5)
        observer = Observer(clock)
        told = (UserMessage(text="Say hello. [script: hello]"),)
        await model.turn(replace(ASKED, model=scripted_claude.MODEL, messages=told), observer)
        await model.close()
    assert [usage.scripted for usage in observer.usages] == [True]
    async with asking(says("live")) as asked:
        await asked.turn()
    assert [usage.scripted for usage in asked.observer.usages] == [False]


async def test_tool_calls_come_with_their_inputs() -> None:
    events = [
        *text("Looking."),
        *tool_use("look", '{"path": "ä.py"}', 1),
        *tool_use("look", "", 2, "toolu_2"),
    ]
    async with asking(stream(start(), *events, *end("tool_use"))) as asked:
        reply = await asked.turn()
    assert [(call.id, call.name, call.input) for call in reply.calls] == [
        ("toolu_1", "look", {"path": "ä.py"}),
        ("toolu_2", "look", {}),
    ]
    assert reply.content[1] == {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "look",
        "input": {"path": "ä.py"},
    }


async def test_thinking_is_said_back_with_its_signature() -> None:
    thought = block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "signed"},
    )
    async with asking(stream(start(), *thought, *text("Done.", 1), *end()), says("Again.")) as asked:
        reply = await asked.turn()
        await asked.turn(Conversation("m", "s", (), (UserMessage(text="a"), reply, UserMessage(text="b"))))
    said = asked.served.bodies[1]["messages"]
    assert isinstance(said, list)
    assert said[1]["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "signed"}


async def test_the_request_is_strict_cached_and_without_sampling() -> None:
    look = stream(start(), *tool_use("look", "{}"), *end("tool_use"))
    async with asking(look, says("ok")) as asked:
        reply = await asked.turn()
        told = (UserMessage(text="Do it."), reply, UserMessage((ToolResult("toolu_1", "", True),)))
        await asked.turn(Conversation("claude-test", "You are a test.", (SPEC,), told))
    first, second = asked.served.bodies
    assert set(first) == {"model", "max_tokens", "system", "tools", "messages", "stream"}
    assert first["tools"] == [
        {
            "name": "look",
            "description": "Look.",
            "input_schema": SPEC.input_schema,
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        }
    ]
    result = second["messages"][2]["content"][0]  # type: ignore[index]
    assert result == {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "(nothing)"}],
        "is_error": True,
        "cache_control": {"type": "ephemeral"},
    }
    assert json.dumps(second).count("cache_control") == 4
    assert asked.served.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_each_turn_is_asked_with_its_own_prompt_and_tools() -> None:
    other = replace(SPEC, input_schema={"type": "object", "properties": {}})
    asked_with = [("s", (SPEC,)), ("s", (other,)), ("t", (other,)), ("s", (SPEC,)), ("s", ())]
    async with asking(*(says("ok") for _ in asked_with)) as asked:
        for system, tools in asked_with:
            await asked.turn(Conversation("m", system, tools, (UserMessage(text="Do it."),)))
    sent: list[Any] = asked.served.bodies
    assert [
        (body["system"][0]["text"], [tool["input_schema"] for tool in body["tools"]]) for body in sent
    ] == [(system, [tool.input_schema for tool in tools]) for system, tools in asked_with]


async def test_breakpoints_stay_four_however_long_the_conversation() -> None:
    done = Reply(({"type": "text", "text": "x"},), "x", (), Stop.END_TURN, "")
    messages = (*(m for _ in range(5) for m in (UserMessage(text="go"), done)), UserMessage(text="last"))
    async with asking(says("ok")) as asked:
        await asked.turn(Conversation("m", "s", (SPEC,), messages))
    body = asked.served.bodies[0]
    assert json.dumps(body).count("cache_control") == 4
    assert body["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}  # type: ignore[index]


async def test_blank_texts_and_empty_replies_are_not_said_back() -> None:
    blank = Reply(({"type": "text", "text": "\n"},), "\n", (), Stop.END_TURN, "")
    told = (UserMessage(text="go"), blank, UserMessage(text="on"))
    async with asking(says("ok")) as asked:
        await asked.turn(Conversation("m", "s", (), told))
    assert [m["role"] for m in asked.served.bodies[0]["messages"]] == ["user", "user"]  # type: ignore[attr-defined]


async def empty(request: web.Request) -> web.StreamResponse:
    return web.Response(status=200)


async def dropped(request: web.Request) -> web.StreamResponse:
    await cut(request)
    return web.Response()


OVERLOADED: Event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
PASSING: dict[str, tuple[Answer, str, int]] = {
    "429": (status(429, "rate_limit_error", "slow down"), "HTTP 429 rate_limit_error: slow down", 0),
    "500": (status(500, "api_error", "oops"), "HTTP 500 api_error: oops", 0),
    "503": (status(503, "api_error", "away"), "HTTP 503 api_error: away", 0),
    "529": (status(529, "overloaded_error", "Overloaded"), "HTTP 529 overloaded_error: Overloaded", 0),
    "dropped before an answer": (dropped, "the connection failed", 0),
    "error event": (stream(start(), *text("abc"), OVERLOADED), "overloaded_error: Overloaded", 1),
    "dropped in the middle": (stream(start(), *text("abcdef"), then=cut), "the connection failed", 1),
    "no message_stop": (stream(start(), *text("abc"), end()[0]), "without message_stop", 1),
    "empty 200": (empty, "without message_stop", 1),
    "event that is not JSON": (
        stream(start(), b"event: message_stop\ndata: {nope\n\n"),
        "the stream broke",
        1,
    ),
    "event without its fields": (stream(sse({"type": "message_start"})), "a malformed event", 1),
    "piece of no block": (stream(start(), text("x")[1]), "never started", 1),
}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_passing_fault_is_asked_again(fault: str) -> None:
    answer, reason, paid = PASSING[fault]
    async with asking(answer, says("Done.")) as asked:
        reply = await asked.turn()
    assert reply.text == "Done."
    assert asked.observer.waits == [0.75]
    assert reason in asked.observer.reasons[0]
    assert [usage.incomplete for usage in asked.observer.usages] == [*([True] * paid), False]


async def test_what_a_broken_stream_told_of_its_usage_is_kept() -> None:
    async with asking(stream(start(), *text("abcdef"), then=cut), says("Done.")) as asked:
        await asked.turn()
    assert asked.observer.usages == [BROKEN, WHOLE]


async def test_a_stall_in_the_stream_is_asked_again() -> None:
    async def stall(request: web.Request) -> None:
        await asyncio.Event().wait()

    async with asking(stream(start(), then=stall), says("Done."), stall=0.2) as asked:
        reply = await asked.turn()
    assert reply.text == "Done."
    assert "stalled" in asked.observer.reasons[0]
    assert asked.observer.usages == [BROKEN, WHOLE]


async def test_a_stall_before_any_answer_is_asked_again() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with asking(silent, says("Done."), stall=0.2) as asked:
        assert (await asked.turn()).text == "Done."
    assert "stalled" in asked.observer.reasons[0]


async def test_retry_after_is_kept_to() -> None:
    limited = status(429, "rate_limit_error", "slow down", retry_after="30")
    async with asking(limited, says("Done."), chance=0.0) as asked:
        await asked.turn()
    assert asked.observer.waits == [30.0]


async def test_what_pauses_one_turn_pauses_all_of_its_family() -> None:
    limited = status(429, "rate_limit_error", "slow down", retry_after="30")
    async with asking(limited, *[says("Done.")] * 3, chance=0.0) as asked:
        first, second, other = asked.observer, Observer(asked.observer.clock), Observer(asked.observer.clock)

        async def meanwhile() -> None:
            (pause,) = asked.model.pauses
            assert (pause.key_fingerprint, pause.model_family) == (asked.model.key_fingerprint, "claude-test")
            assert (pause.resume_time - first.clock.now()).total_seconds() == 30
            await asked.model.turn(replace(ASKED, model="claude-other-1"), other)
            await asked.model.turn(ASKED, second)

        first.meanwhile = meanwhile
        await asked.turn()
        assert asked.model.pauses == ()
    assert other.waits == []
    assert (first.waits, second.waits) == ([30.0], [31.25])  # the second follows at the gate's pace
    assert "HTTP 429 rate_limit_error: slow down" in second.reasons[0]


async def test_a_turn_whose_provider_is_paused_for_too_long_gives_up_without_asking() -> None:
    limited = status(429, "rate_limit_error", "slow down", retry_after="3600")
    async with asking(limited) as asked:
        await asked.failure()
        failed = await asked.failure()
    assert failed.outcome is Outcome.PROVIDER_UNAVAILABLE
    assert "slow down" in failed.message
    assert len(asked.served.bodies) == 1


async def test_a_broken_stream_pauses_nobody_else() -> None:
    async with asking(stream(start(), *text("abcdef"), then=cut), says("Done.")) as asked:
        await asked.turn()
        assert asked.model.pauses == ()


async def test_retry_after_may_be_a_date() -> None:
    limited = status(429, "rate_limit_error", "slow", retry_after="Thu, 01 Jan 2026 12:00:20 GMT")
    async with asking(limited, says("Done."), chance=0.0) as asked:
        await asked.turn()
    assert asked.observer.waits == [20.0]


async def test_an_hour_of_retry_after_is_not_waited() -> None:
    limited = status(429, "rate_limit_error", "slow down", retry_after="3600")
    async with asking(limited) as asked:
        failed = await asked.failure()
    assert failed.outcome is Outcome.PROVIDER_UNAVAILABLE
    assert "the next would be in 36" in failed.message
    assert asked.observer.waits == []


async def test_ten_minutes_of_trouble_are_the_end_of_patience() -> None:
    async with asking(*[status(529, "overloaded_error", "Overloaded")] * 40) as asked:
        failed = await asked.failure()
    assert failed.outcome is Outcome.PROVIDER_UNAVAILABLE
    assert "Overloaded (request req_529)" in failed.message
    assert 540 < sum(asked.observer.waits) <= 600


async def test_a_provider_that_is_not_there_is_unavailable() -> None:
    async with asking() as asked:
        pass
    clock = HandClock()
    model = ClaudeModel(KEY, asked.served.url, clock=clock, chance=lambda: 1.0, patience=Patience(total=5))
    with pytest.raises(AttemptFailed) as raised:
        await model.turn(ASKED, Observer(clock))
    await model.close()
    assert raised.value.outcome is Outcome.PROVIDER_UNAVAILABLE


REJECTED: Event = {"type": "error", "error": {"type": "invalid_request_error", "message": "no such thing"}}
DECLINED = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
FINAL: dict[str, tuple[Answer, Outcome, str]] = {
    name: (answer, Outcome.PROVIDER_REJECTED, detail)
    for name, answer, detail in [
        ("400", status(400, "invalid_request_error", "why"), "invalid_request_error: why (request req_400)"),
        ("401", status(401, "authentication_error", "why"), "HTTP 401 authentication_error: why"),
        ("403", status(403, "permission_error", "why"), "HTTP 403 permission_error: why"),
        ("404", status(404, "not_found_error", "why"), "HTTP 404 not_found_error: why"),
        ("redirect", status(307, "", "elsewhere", location="http://127.0.0.1:1/"), "HTTP 307: elsewhere"),
        ("error event", stream(start(), REJECTED), "invalid_request_error: no such thing (request req_ok)"),
    ]
}
FINAL["refusal"] = (
    stream(start(), *text("I"), *end("refusal", stop_details=DECLINED)),
    Outcome.REFUSED,
    "refused by the model: Not this. (request req_ok)",
)


@pytest.mark.parametrize("fault", FINAL)
async def test_a_final_fault_is_not_asked_again(fault: str) -> None:
    answer, outcome, detail = FINAL[fault]
    async with asking(answer) as asked:
        failed = await asked.failure()
    assert failed.outcome is outcome
    assert detail in failed.message
    assert asked.observer.waits == []


TWICE = [*tool_use("look", "{}"), *tool_use("look", "{}", 1)]
BAD = {
    name: (stream(start(), *events, *end(stop_reason)), detail)
    for name, events, stop_reason, detail in [
        ("broken tool JSON", tool_use("look", '{"path": nope}'), "tool_use", "input that is not JSON"),
        ("tool JSON list", tool_use("look", "[1, 2]"), "tool_use", "an input that is no JSON object"),
        ("tool_use, no call", text("hm"), "tool_use", "has 0 tool calls with stop_reason 'tool_use'"),
        ("call, no tool_use", tool_use("look", "{}"), "end_turn", "has 1 tool calls with stop_reason"),
        ("one id twice", TWICE, "tool_use", "two tool calls with one id"),
        ("lone surrogate", tool_use("look", '{"a": "\\ud800"}'), "tool_use", "cannot be sent back"),
        ("unknown stop", text("hm"), "pause_turn", "ended with stop_reason 'pause_turn'"),
    ]
}


@pytest.mark.parametrize("fault", BAD)
async def test_a_reply_that_cannot_be_used_is_asked_for_anew_and_paid(fault: str) -> None:
    async with asking(BAD[fault][0], says("Done.")) as asked:
        assert (await asked.turn()).text == "Done."
    assert asked.observer.waits == []
    assert asked.observer.usages == [WHOLE, WHOLE]


@pytest.mark.parametrize("fault", BAD)
async def test_three_replies_that_cannot_be_used_are_the_end(fault: str) -> None:
    answer, detail = BAD[fault]
    async with asking(*[answer] * 3) as asked:
        failed = await asked.failure()
    assert failed.outcome is Outcome.BAD_MODEL_REPLY
    assert detail in failed.message


@pytest.mark.parametrize("answer", [BAD["tool JSON list"][0], status(529, "overloaded_error", "Overloaded")])
async def test_no_request_is_sent_that_may_not_be_paid(answer: Answer) -> None:
    async with asking(answer) as asked:
        asked.observer.may_try = 1
        failed = await asked.failure()
    assert failed.outcome is Outcome.ALLOWANCE_SPENT
    assert len(asked.served.bodies) == 1


async def test_a_refusal_is_paid_all_the_same() -> None:
    async with asking(FINAL["refusal"][0]) as asked:
        await asked.failure()
    assert asked.observer.usages == [WHOLE]


CALL = ("look", '{"path": "a.py"}')
CUT_OFF: dict[str, tuple[list[Event], int]] = {
    "in tool JSON": ([*text("I look."), *tool_use("look", '{"path": "a', 1)], 1),
    "after a whole call": ([*text("I look."), *tool_use(*CALL, 1), *tool_use("look", "", 2, "toolu_2")], 1),
    "before a word": ([], 0),
}


@pytest.mark.parametrize("where", CUT_OFF)
async def test_no_call_of_a_reply_that_was_cut_off_is_run(where: str) -> None:
    events, blocks = CUT_OFF[where]
    async with asking(stream(start(), *events, *end("max_tokens"))) as asked:
        reply = await asked.turn()
    assert (reply.stop, reply.calls, len(reply.content)) == (Stop.CUT_OFF, (), blocks)


LONG = "prompt is too long: 208310 tokens > 200000 maximum"
TOO_LONG: dict[str, Answer] = {
    "400": status(400, "invalid_request_error", LONG),
    "413": status(413, "request_too_large", "Request exceeds the maximum size"),
    "no room for a reply": stream(start(), *text("I"), *end("model_context_window_exceeded")),
}


@pytest.mark.parametrize("fault", TOO_LONG)
async def test_a_conversation_that_is_too_long_is_told_from_a_bad_request(fault: str) -> None:
    async with asking(TOO_LONG[fault]) as asked:
        with pytest.raises(ConversationTooLong):
            await asked.turn()
    assert asked.observer.waits == []


async def test_text_that_was_cut_off_is_a_reply() -> None:
    async with asking(stream(start(), *text("I was about to"), *end("max_tokens"))) as asked:
        reply = await asked.turn()
    assert (reply.stop, reply.text) == (Stop.CUT_OFF, "I was about to")


async def test_a_cancelled_turn_closes_its_stream_and_is_paid() -> None:
    sent, closed = asyncio.Event(), asyncio.Event()

    async def until_closed(request: web.Request) -> None:
        sent.set()
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with asking(stream(start(), *text("abc"), then=until_closed)) as asked:
        turn = asyncio.create_task(asked.turn())
        await sent.wait()
        for _ in range(100):  # what was sent is in the client's socket: it needs a few steps, no time
            await asyncio.sleep(0)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await closed.wait()
    assert asked.observer.usages == [BROKEN]


@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_does_not_take_loopback_requests(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(proxy, "http://127.0.0.1:1")
    async with asking(says("Done.")) as asked:
        assert (await asked.turn()).text == "Done."
    assert asked.observer.waits == []


async def test_the_key_is_known_by_its_fingerprint_and_the_endpoint_without_credentials() -> None:
    url = "https://me:secret@api.example.com:8443/proxy?token=secret"
    model = ClaudeModel(KEY, url, clock=HandClock(), chance=lambda: 0.0)
    await model.close()
    assert model.key_fingerprint == "f3abf2a6cc4f"
    assert model.endpoint == "https://api.example.com:8443/proxy"


@pytest.mark.parametrize(
    ("key", "url", "message"),
    [
        ("", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
        (KEY, "ftp://api.anthropic.com", "ANTHROPIC_BASE_URL"),
        (KEY, "nonsense", "ANTHROPIC_BASE_URL"),
    ],
)
async def test_no_model_without_a_key_and_a_url(key: str, url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClaudeModel(key, url, clock=HandClock(), chance=lambda: 0.0)
