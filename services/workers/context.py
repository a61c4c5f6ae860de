"""A conversation that has outgrown the model's context, made shorter."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.workers.model.conversation import Conversation, Reply, UserMessage

KEPT = 400  # characters of a text that is shortened
RECENT = 4  # messages at the end that are touched last: what was asked for just now is still needed

Message = UserMessage | Reply


@dataclass(frozen=True, slots=True)
class Shortened:
    """A shorter conversation; `messages` of it are not what they were."""

    conversation: Conversation
    messages: int


def shortened(conversation: Conversation) -> Shortened | None:
    """Halve a conversation; None where nothing of it can be shortened.

    The oldest tool results go first, to their beginning and end: what stands before them stays in the
    provider's cache, and halving makes it seldom. Then what old calls wrote; the latest messages only where
    that is not enough. Every call keeps its result, and the first message, with the task, stays whole.
    """
    messages = list(conversation.messages)
    sizes = [_size(message) for message in messages]
    surplus, changed = sum(sizes) / 2, 0
    for end in (len(messages) - RECENT, len(messages)):
        for shorten in (_shorter_results, _shorter_calls):
            for at in range(1, end):
                if changed and surplus <= 0:
                    break
                shorter = shorten(messages[at])
                if shorter != messages[at]:
                    messages[at] = shorter
                    surplus -= sizes[at] - _size(shorter)
                    changed += 1
    return Shortened(replace(conversation, messages=tuple(messages)), changed) if changed else None


def _size(message: Message) -> int:
    if isinstance(message, Reply):
        return len(json.dumps(message.content))
    return len(message.text) + sum(len(result.text) for result in message.results)


def _shorter_results(message: Message) -> Message:
    if isinstance(message, Reply):
        return message
    results = tuple(replace(result, text=_shorter(result.text)) for result in message.results)
    return UserMessage(results, _shorter(message.text))


def _shorter_calls(message: Message) -> Message:
    if isinstance(message, UserMessage):
        return message
    content = tuple(
        {**block, "input": _map_texts(block["input"], _shorter)} if block["type"] == "tool_use" else block
        for block in message.content
    )
    return replace(message, content=content)


def _map_texts(value: object, change: Callable[[str], str]) -> object:
    """A JSON value with each text in it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [_map_texts(each, change) for each in value]
        case dict():
            return {name: _map_texts(each, change) for name, each in value.items()}
    return value


def _shorter(text: str) -> str:
    """A text's beginning and end, where what is left out is more than what says so."""
    if len(text) <= 2 * KEPT:
        return text
    gone = len(text) - KEPT
    note = f"[... {gone} characters were taken out, as the conversation had grown too long ...]"
    return f"{text[: KEPT // 2]}\n{note}\n{text[-KEPT // 2 :]}"
