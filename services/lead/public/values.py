"""The values that events and resources are told with."""

from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.amounts import write_amounts
from codeframe.budget import Budget
from codeframe.v1 import budget_pb2, evidence_pb2, state_pb2
from services.lead.machine.outcome import Outcome
from services.lead.machine.state import RunFailure
from services.lead.machine.usage import Usage

E = TypeVar("E", bound=Enum)


def timestamp(instant: datetime) -> Timestamp:
    """An aware instant as a Timestamp."""
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message


def instant(message: Timestamp) -> datetime:
    """A Timestamp as an aware instant."""
    return message.ToDatetime(UTC)


def value_of(enum: Any, prefix: str, member: Enum | None) -> Any:
    """The number of a member, by its name; UNSPECIFIED for None."""
    return enum.Value(f"{prefix}_{member.name if member else 'UNSPECIFIED'}")


def member_of(kind: type[E], enum: Any, prefix: str, number: int) -> E | None:
    """The member of a number, by its name; None for UNSPECIFIED."""
    name = enum.Name(number).removeprefix(f"{prefix}_")
    return None if name == "UNSPECIFIED" else kind[name]


def outcome_to_proto(outcome: Outcome | None) -> evidence_pb2.Outcome.ValueType:
    """An outcome by its name."""
    return value_of(evidence_pb2.Outcome, "OUTCOME", outcome)  # type: ignore[no-any-return]


def outcome_from_proto(number: int) -> Outcome:
    """An outcome by its name; one that this lead does not know is INTERNAL."""
    if number not in evidence_pb2.Outcome.values():
        return Outcome.INTERNAL
    return member_of(Outcome, evidence_pb2.Outcome, "OUTCOME", number) or Outcome.INTERNAL


def usage_from_proto(usage: evidence_pb2.ModelUsage) -> Usage:
    """What model calls took."""
    return Usage(
        usage.model,
        usage.turns,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_write_tokens,
        usage.cache_read_tokens,
        usage.incomplete,
        usage.scripted,
        usage.cost_micros,
        usage.cost_known,
    )


def usage_to_proto(usage: Usage) -> evidence_pb2.ModelUsage:
    """What model calls took, as the API has it."""
    return evidence_pb2.ModelUsage(
        model=usage.model,
        turns=usage.turns,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        incomplete=usage.incomplete,
        scripted=usage.scripted,
        cost_micros=usage.cost_micros,
        cost_known=usage.cost_known,
    )


def allowance_to_proto(allowance: Budget) -> budget_pb2.Allowance:
    """What an attempt may spend."""
    return write_amounts(budget_pb2.Allowance(), allowance)


def failure_to_proto(failure: RunFailure) -> state_pb2.RunFailure:
    """Why a run failed, as the API has it."""
    reason = value_of(state_pb2.RunFailureReason, "RUN_FAILURE_REASON", failure.reason)
    return state_pb2.RunFailure(reason=reason, message=failure.message)
