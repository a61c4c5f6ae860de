"""A conversation as the provider's Messages request: a stable prefix, marked for its cache."""

import json
from typing import Any

from services.workers.model.conversation import Conversation, Reply, UserMessage

Block = dict[str, Any]  # as JSON
CACHED: Block = {"cache_control": {"type": "ephemeral"}}
CACHED_USER_MESSAGES = 2  # this turn's, to be found by the next; and the last turn's, to be found by this one


def body_of(conversation: Conversation, max_tokens: int) -> bytes:
    """The request's JSON, which asks for a stream."""
    body = {
        "model": conversation.model,
        "max_tokens": max_tokens,
        # The same in every turn and attempt of a role.
        "system": [{"type": "text", "text": conversation.system, **CACHED}],
        "tools": _tools(conversation),
        "messages": _messages(conversation),
        "stream": True,
    }
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _tools(conversation: Conversation) -> list[Block]:
    """The tools, strict, in their order."""
    tools: list[Block] = [
        {
            "name": spec.name,
            "description": spec.description,
            "input_schema": spec.input_schema,
            "strict": True,
        }
        for spec in conversation.tools
    ]
    if tools:
        tools[-1].update(CACHED)
    return tools


def _messages(conversation: Conversation) -> list[Block]:
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
