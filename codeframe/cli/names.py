"""The API's enum values, as people read them."""

from typing import Any

from codeframe.v1 import evidence_pb2, state_pb2

RED_AT_BASE = " (at the base, too)"
"""Said of tests that failed where the verification is green all the same."""


def spoken(enum: Any, number: int) -> str:
    """A value's name: TASK_STATE_IN_PROGRESS as "in progress"; one of a later version by its number."""
    names = enum.DESCRIPTOR.values_by_number
    if number not in names:
        return f"{enum.DESCRIPTOR.name} {number}"
    prefix = names[0].name.removesuffix("UNSPECIFIED")
    return str(names[number].name).removeprefix(prefix).lower().replace("_", " ")


def task_state(number: int) -> str:
    """A task's state: "in progress"."""
    return spoken(state_pb2.TaskState, number)


def run_state(number: int) -> str:
    """A run's state, as the API names it: "COMPLETED"."""
    return spoken(state_pb2.RunState, number).upper()


def outcome(number: int) -> str:
    """An attempt's outcome: "verification failed"."""
    return spoken(evidence_pb2.Outcome, number)


def first_line(text: str) -> str:
    """The first line of a message."""
    return text.splitlines()[0] if text else ""
