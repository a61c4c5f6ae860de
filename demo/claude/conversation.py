"""What a script may ask of a conversation. All of it is read from the request; nothing is remembered."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from demo.claude.errors import ApiError
from demo.claude.request import Message, MessagesRequest, Text, ToolResult, ToolUse

MARKER = re.compile(r"\[script: ([a-z0-9][a-z0-9-]*)\]")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The state of a conversation.

    `marker` names its script. `turn` is the turn now asked for, from 1. `prompt` is the text of the first
    message; `last_text`, `last_results` and `last_error` are of the last one: its text, its tool results,
    and whether one of these is an error. `results` are all tool results so far. `files` are those known to
    be there: lines of results (a listing's), and what the model's own calls wrote. `digest` tells one turn's
    request from another's, whatever their cache breakpoints.
    """

    marker: str
    turn: int
    prompt: str
    last_text: str
    last_results: str
    last_error: bool
    results: str
    files: frozenset[str]
    digest: str


def read_conversation(request: MessagesRequest) -> Conversation:
    """Read a request's state.

    Raises ApiError (400) where its first message bears no marker, or markers of several scripts.
    """
    messages = request.messages
    prompt = _text(messages[0])
    last = messages[-1]
    return Conversation(
        marker=_marker(prompt),
        turn=1 + sum(message.role == "assistant" for message in messages),
        prompt=prompt,
        last_text=_text(last),
        last_results=_results([last]),
        last_error=any(isinstance(block, ToolResult) and block.is_error for block in last.content),
        results=_results(messages),
        files=_files(messages),
        digest=_digest(request),
    )


def _marker(prompt: str) -> str:
    match sorted(set(MARKER.findall(prompt))):
        case [marker]:
            return str(marker)
        case []:
            raise ApiError(
                400,
                "scripted Claude: the first message bears no marker such as [script: orders]; "
                "I only say what a script tells me, so give the task's description one",
            )
        case several:
            raise ApiError(
                400, f"scripted Claude: the first message bears several markers: {', '.join(several)}"
            )


def _text(message: Message) -> str:
    return "\n".join(block.text for block in message.content if isinstance(block, Text))


def _results(messages: Sequence[Message]) -> str:
    blocks = [block for message in messages for block in message.content]
    return "\n".join(block.text for block in blocks if isinstance(block, ToolResult))


def _files(messages: Sequence[Message]) -> frozenset[str]:
    files: set[str] = set()
    for block in (block for message in messages for block in message.content):
        match block:
            case ToolResult():
                files.update(line for line in block.text.splitlines() if line and " " not in line)
            case ToolUse(name="delete_file", input={"path": str(path)}):
                files.discard(path)
            case ToolUse(name="create_file" | "write_file" | "add_component", input={"path": str(path)}):
                files.add(path)
            case _:
                pass
    return frozenset(files)


def _digest(request: MessagesRequest) -> str:
    said = request.model_dump(
        include={"model", "system", "tools", "messages"},
        exclude={part: {"__all__": {"cache_control"}} for part in ("system", "tools")},
    )
    for message in said["messages"]:
        for block in message["content"]:
            del block["cache_control"]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
