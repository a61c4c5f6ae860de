"""A conversation as the provider's Messages request: a stable prefix, marked for its cache."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from services.workers.model.conversation import Conversation, Reply, ToolSpec, UserMessage

Block = dict[str, Any]  # as JSON
CACHED: Block = {"cache_control": {"type": "ephemeral"}}
CACHED_USER_MESSAGES = 2  # this turn's, to be found by the next; and the last turn's, to be found by this one


def body_of(conversation: Conversation, max_tokens: int) -> bytes:
    """The request's JSON, which asks for a stream."""
    fields = (
        f'"model":{_json(conversation.model)},"max_tokens":{max_tokens}',
        _prefix(conversation.system, conversation.tools),
        f'"messages":{_json(messages_of(conversation))},"stream":true',
    )
    return f"{{{','.join(fields)}}}".encode()


@lru_cache(maxsize=32)
def _prefix(system: str, tools: tuple[ToolSpec, ...]) -> str:
    """The fields that are the same in every turn and attempt of a role."""
    return f'"system":{_json(system_of(system))},"tools":{_json(tools_of(tools))}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def system_of(system: str) -> list[Block]:
    """The system prompt."""
    return [{"type": "text", "text": system, **CACHED}]


def tools_of(specs: Sequence[ToolSpec]) -> list[Block]:
    """The tools, strict, in their order."""
    tools: list[Block] = [
        {
            "name": spec.name,
            "description": spec.description,
            "input_schema": spec.input_schema,
            "strict": True,
        }
        for spec in specs
    ]
    if tools:
        tools[-1].update(CACHED)
    return tools


def messages_of(conversation: Conversation) -> list[Block]:
    """All messages. With those of system and tools, four cache breakpoints at most."""
    messages: list[Block] = []
    for message in conversation.messages:
        if isinstance(message, Reply):
            role, content = "assistant", _said(message)
        else:
            role, content = "user", _told(message)
        if content:
            messages.append({"role": role, "content": content})
    told = [message["content"] for message in messages if message["role"] == "user"]
    for content in told[-CACHED_USER_MESSAGES:]:
        content[-1].update(CACHED)
    return messages


def _said(reply: Reply) -> list[Block]:
    """The reply's own blocks, less blank texts, which the provider writes but does not read."""
    return [dict(block) for block in reply.content if block["type"] != "text" or str(block["text"]).strip()]


def _told(message: UserMessage) -> list[Block]:
    blocks: list[Block] = [
        {
            "type": "tool_result",
            "tool_use_id": result.call_id,
            "content": [{"type": "text", "text": result.text if result.text.strip() else "(nothing)"}],
            "is_error": result.is_error,
        }
        for result in message.results
    ]
    if message.text.strip():
        blocks.append({"type": "text", "text": message.text})
    return blocks
