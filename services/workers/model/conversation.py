"""What is said to a model, and what it says."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.workers.work import ModelUsage

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it. `input_schema` is a strict JSON schema of an object."""

    name: str
    description: str
    input_schema: Json = field(hash=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool to be run; `id` pairs it with its result."""

    id: str
    name: str
    input: Json


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a tool call."""

    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the model is told: results of every tool call of its last turn, then text."""

    results: tuple[ToolResult, ...] = ()
    text: str = ""


class Stop(enum.Enum):
    """Why a reply ended: the model was done, it wants tools run, or it was cut off at its longest."""

    END_TURN = "end_turn"
    TOOL_USE = "tool_use"
    CUT_OFF = "max_tokens"


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `content` is the provider's own blocks, to be said back to it unchanged.

    `calls` is empty unless `stop` is TOOL_USE; a call that was cut off is not in `content` either.
    `request_id` is the provider's.
    """

    content: tuple[Json, ...]
    text: str
    calls: tuple[ToolCall, ...]
    stop: Stop
    request_id: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that a turn is asked with. `messages` starts with the user's and ends with the user's."""

    model: str
    system: str
    tools: tuple[ToolSpec, ...]
    messages: tuple[UserMessage | Reply, ...]

    def with_message(self, message: UserMessage | Reply) -> "Conversation":
        """The conversation with one more message at its end."""
        return Conversation(self.model, self.system, self.tools, (*self.messages, message))


class ConversationTooLong(Exception):
    """The conversation has outgrown the model's context; a shorter one may be asked with."""


class TurnObserver(Protocol):
    """Who asks for a turn, as the model tells it what the turn takes."""

    def begin_try(self) -> None:
        """A request is about to be sent. Raises AttemptFailed where no more may be spent."""
        ...

    def paid(self, usage: ModelUsage, request_id: str) -> None:
        """A try ended that may be billed: by a reply, an error, or a cancel. At most one call a try."""
        ...

    async def wait(self, seconds: float, reason: str) -> None:
        """Wait so long for the provider, with the attempt's clock stopped, before the next try.

        Raises AttemptFailed where there must be none.
        """
        ...


class Model(Protocol):
    """Something that replies."""

    async def turn(self, conversation: Conversation, observer: TurnObserver) -> Reply:
        """Ask for one reply; ask again where that can help.

        Cancelled, it closes the stream. Raises AttemptFailed: PROVIDER_UNAVAILABLE where it waited, or would
        wait, for 10 min, PROVIDER_REJECTED, REFUSED, or BAD_MODEL_REPLY where no reply of three could be
        used. Raises ConversationTooLong.
        """
        ...
