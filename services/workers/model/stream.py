"""A streamed reply, put together event by event; whole only once its `message_stop` came."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.workers.model.conversation import ConversationTooLong, Json, Reply, Stop, ToolCall
from services.workers.model.events import StreamBroken
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.work import ModelUsage

MAX_CHARACTERS = 16 * 1024 * 1024
STOPS = {stop.value: stop for stop in Stop}
COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
PIECES = {
    "text_delta": ("text", "text"),
    "input_json_delta": ("input", "partial_json"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
}
"""By a delta's type: what of its block goes on, and the delta's field that has the next piece of it."""
NO_ROOM = "model_context_window_exceeded"


class BadReply(Exception):
    """A whole message that cannot be used; another one may be better."""


@dataclass(slots=True)
class _Block:
    """A content block so far: what it started with, and the pieces that came since."""

    start: Json
    pieces: dict[str, list[str]] = field(default_factory=dict)

    def joined(self, name: str) -> str:
        return "".join([str(self.start.get(name) or ""), *self.pieces.get(name, ())])


class ReplyStream:
    """Takes a stream's events in their order."""

    def __init__(self, requested_model: str, request_id: str, *, scripted: bool = False) -> None:
        """Begin. `scripted`: who replies says that it is a stand-in for a model."""
        self._request_id = request_id
        self._scripted = scripted
        self._blocks: dict[int, _Block] = {}
        self._characters = 0
        self._model = requested_model
        self._usage: dict[str, int] = {}
        self._stop_reason: str | None = None
        self._stop_details: str = ""
        self.ended = False

    def take(self, event: Json) -> None:
        """Take the next event. Raises StreamBroken where it cannot be one, BadReply at 16 MiB."""
        try:
            self._take(event)
        except (AttributeError, TypeError, KeyError) as error:  # nobody has checked its fields
            raise StreamBroken(f"a malformed event: {error!r}") from error

    def _take(self, event: Mapping[str, Any]) -> None:
        match event["type"]:
            case "message_start":
                self._model = _text(event["message"]["model"])
                self._count(event["message"]["usage"])
            case "content_block_start":
                self._blocks[event["index"]] = _Block(dict(**event["content_block"]))
            case "content_block_delta":
                self._extend(event["index"], event["delta"])
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason")
                self._stop_details = (event["delta"].get("stop_details") or {}).get("explanation") or ""
                self._count(event["usage"])
            case "message_stop":
                self.ended = True
            case _:
                pass  # an event of a later version of the API

    def _count(self, usage: Json) -> None:
        """Keep the counts that came; each is a total so far, and one that is not told again still stands."""
        for name in COUNTS:
            if isinstance(count := usage.get(name), int):
                self._usage[name] = count

    def _extend(self, index: int, delta: Json) -> None:
        if index not in self._blocks:
            raise StreamBroken(f"a piece of content block {index}, which never started")
        kind = _text(delta["type"])
        if kind not in PIECES:
            return
        name, key = PIECES[kind]
        piece = _text(delta[key])
        self._characters += len(piece)
        if self._characters > MAX_CHARACTERS:
            raise self._bad("is over 16 MiB")
        self._blocks[index].pieces.setdefault(name, []).append(piece)

    @property
    def usage(self) -> ModelUsage:
        """What the stream told of its usage, incomplete unless it ended."""
        return ModelUsage(
            self._model,
            turns=1,
            input_tokens=self._usage.get("input_tokens", 0),
            output_tokens=self._usage.get("output_tokens", 0),
            cache_write_tokens=self._usage.get("cache_creation_input_tokens", 0),
            cache_read_tokens=self._usage.get("cache_read_input_tokens", 0),
            incomplete=not self.ended,
            scripted=self._scripted,
        )

    def reply(self) -> Reply:
        """Return the whole reply.

        Raises StreamBroken where the stream did not end with `message_stop`, BadReply where it cannot be
        used, ConversationTooLong where there was no room for it, and AttemptFailed (REFUSED).
        """
        if not self.ended:
            raise StreamBroken("the stream ended without message_stop")
        if self._stop_reason == "refusal":
            raise AttemptFailed(Outcome.REFUSED, self._about("was refused by the model", self._stop_details))
        if self._stop_reason == NO_ROOM:
            raise ConversationTooLong(self._about("found no room in the model's context", ""))
        stop = STOPS.get(self._stop_reason or "")
        if stop is None:
            raise self._bad(f"ended with stop_reason {self._stop_reason!r}")
        blocks = [block for _, block in sorted(self._blocks.items())]
        if stop is Stop.CUT_OFF:  # what it asks for may be there by half: none of it is done
            blocks = [block for block in blocks if block.start.get("type") != "tool_use"]
        asked = [block for block in blocks if block.start.get("type") == "tool_use"]
        if bool(asked) != (stop is Stop.TOOL_USE):
            raise self._bad(f"has {len(asked)} tool calls with stop_reason {stop.value!r}")
        calls = tuple(self._call(block) for block in asked)
        if len({call.id for call in calls}) < len(calls):
            raise self._bad("has two tool calls with one id")
        inputs = {call.id: call.input for call in calls}
        content = tuple(_said_back(block, inputs) for block in blocks)
        text = "\n".join(block.joined("text") for block in blocks if block.start.get("type") == "text")
        return Reply(self._sendable(content), text, calls, stop, self._request_id)

    def _call(self, block: _Block) -> ToolCall:
        name = str(block.start.get("name"))
        text = "".join(block.pieces.get("input", ()))
        try:
            values = json.loads(text) if text.strip() else block.start.get("input") or {}
        except (ValueError, RecursionError) as error:
            raise self._bad(f"calls {name} with an input that is not JSON: {error}") from None
        if not isinstance(values, Mapping):
            raise self._bad(f"calls {name} with an input that is no JSON object")
        return ToolCall(str(block.start.get("id")), name, values)

    def _sendable(self, content: tuple[Json, ...]) -> tuple[Json, ...]:
        """Check that the content can be said back to the provider."""
        try:
            json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise self._bad(f"cannot be sent back: {error}") from None
        return content

    def _bad(self, what: str) -> BadReply:
        return BadReply(self._about(what, ""))

    def _about(self, what: str, why: str) -> str:
        return f"the reply {what}{f': {why}' if why else ''} (request {self._request_id or 'without an id'})"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _said_back(block: _Block, inputs: Mapping[str, Json]) -> Json:
    match block.start.get("type"):
        case "text":
            return {"type": "text", "text": block.joined("text")}
        case "tool_use":
            call_id = str(block.start["id"])
            return {"type": "tool_use", "id": call_id, "name": block.start["name"], "input": inputs[call_id]}
        case "thinking":
            signature = block.joined("signature")
            return {"type": "thinking", "thinking": block.joined("thinking"), "signature": signature}
        case _:
            return block.start
