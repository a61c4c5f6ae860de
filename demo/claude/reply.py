"""Replies: a step as a message, whole or as the events of a stream. Pure.

Every field of the SDK's types is there, null where it says nothing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from demo.claude.cache import InputTokens, estimate
from demo.claude.script import Step

Json = dict[str, object]

TEXT_FRAGMENT = 24
JSON_FRAGMENT = 48


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolBlock:
    """A tool call; `text` is its input as JSON, cut short where the reply was."""

    id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply."""

    id: str
    model: str
    blocks: Sequence[TextBlock | ToolBlock]
    stop_reason: str
    tokens: InputTokens

    @property
    def output_tokens(self) -> int:
        """What the whole reply takes; an empty one takes a token too."""
        return max(1, sum(estimate(block.text) for block in self.blocks))


def reply(
    step: Step,
    model: str,
    max_tokens: int,
    tokens: InputTokens,
    new_id: Callable[[str], str],
    garble: bool = False,
) -> Reply:
    """What a step says, cut after `max_tokens` (or the step's own). `new_id` makes ids after a prefix.

    `garble` breaks the JSON of the tools' inputs.
    """
    said: list[TextBlock | ToolBlock] = [TextBlock(step.say.strip())] if step.say.strip() else []
    for call in step.use:
        text = json.dumps(call.input, ensure_ascii=False)
        said.append(ToolBlock(new_id("toolu_"), call.tool, "}" + text if garble else text))
    stop = step.stop or ("tool_use" if step.use else "end_turn")
    kept = _cut(said, min(max_tokens, step.max_tokens or max_tokens))
    return Reply(new_id("msg_"), model, kept, stop if kept == said else "max_tokens", tokens)


def _cut(blocks: Sequence[TextBlock | ToolBlock], max_tokens: int) -> list[TextBlock | ToolBlock]:
    kept: list[TextBlock | ToolBlock] = []
    for block in blocks:
        if max_tokens <= 0:
            break
        text = block.text.encode()[: max_tokens * 4].decode(errors="ignore")
        max_tokens -= estimate(block.text)
        kept.append(
            TextBlock(text) if isinstance(block, TextBlock) else ToolBlock(block.id, block.name, text)
        )
    return kept


def message(said: Reply) -> Json:
    """A reply as the body of a response."""
    return {
        "id": said.id,
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": [_block(block, whole=True) for block in said.blocks],
        "stop_reason": said.stop_reason,
        "stop_sequence": None,
        "stop_details": _stop_details(said),
        "container": None,
        "diagnostics": None,
        "usage": _usage(said, said.output_tokens),
    }


def events(said: Reply) -> Iterator[Json]:
    """A reply as the events of a stream."""
    opening = message(said) | {
        "content": [],
        "stop_reason": None,
        "stop_details": None,
        "usage": _usage(said, 0),
    }
    yield {"type": "message_start", "message": opening}
    yield {"type": "ping"}
    for index, block in enumerate(said.blocks):
        yield {"type": "content_block_start", "index": index, "content_block": _block(block, whole=False)}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {
            "stop_reason": said.stop_reason,
            "stop_sequence": None,
            "stop_details": _stop_details(said),
            "container": None,
        },
        "usage": {
            "input_tokens": said.tokens.fresh,
            "cache_creation_input_tokens": said.tokens.written,
            "cache_read_input_tokens": said.tokens.read,
            "output_tokens": said.output_tokens,
            "output_tokens_details": {"thinking_tokens": 0},
            "server_tool_use": None,
        },
    }
    yield {"type": "message_stop"}


def delta_text(event: Json) -> str:
    """What an event adds to the reply."""
    delta = event.get("delta")
    text = delta.get("text", delta.get("partial_json", "")) if isinstance(delta, dict) else ""
    return str(text)


def _deltas(block: TextBlock | ToolBlock) -> Iterator[Json]:
    if isinstance(block, TextBlock):
        for fragment in _fragments(block.text, TEXT_FRAGMENT):
            yield {"type": "text_delta", "text": fragment}
        return
    yield {"type": "input_json_delta", "partial_json": ""}
    for fragment in _fragments(block.text, JSON_FRAGMENT):
        yield {"type": "input_json_delta", "partial_json": fragment}


def _fragments(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


def _block(block: TextBlock | ToolBlock, whole: bool) -> Json:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text if whole else "", "citations": None}
    return {
        "type": "tool_use",
        "id": block.id,
        "name": block.name,
        "input": _input(block.text) if whole else {},
        "caller": {"type": "direct"},
        "toolset_name": None,
    }


def _input(text: str) -> Json:
    """A tool's input; of a broken one nothing is left."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _stop_details(said: Reply) -> Json | None:
    if said.stop_reason != "refusal":
        return None
    return {"type": "refusal", "category": None, "explanation": None}


def _usage(said: Reply, output_tokens: int) -> Json:
    tokens = said.tokens
    return {
        "input_tokens": tokens.fresh,
        "cache_creation_input_tokens": tokens.written,
        "cache_read_input_tokens": tokens.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.written_5m,
            "ephemeral_1h_input_tokens": tokens.written_1h,
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": 0},
        "server_tool_use": None,
        "service_tier": "standard",
        "speed": "standard",
        "inference_geo": None,
    }
