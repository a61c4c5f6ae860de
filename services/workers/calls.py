"""Tool calls, told in a line."""

from collections.abc import Sequence

from services.workers.model.conversation import ToolCall
from services.workers.tools.clip import line


def described(calls: Sequence[ToolCall]) -> str:
    """The calls in a line: each tool, and what it is about."""
    told = [f"{call.name} {_about(call)}".rstrip() for call in calls]
    return line("; ".join(told) or "a reply that was cut off")


def _about(call: ToolCall) -> str:
    return " ".join(str(call.input[name]) for name in ("pattern", "path", "paths") if name in call.input)
