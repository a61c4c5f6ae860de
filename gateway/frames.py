"""The old flat frames of the WebSocket: this table is their only translation."""

from typing import Any

from google.protobuf.message import Message

from codeframe.v1 import status_pb2

# Payload name -> the fields that its frame has. A field marked "?" is left out where it is unset.
# What the system before this one did not know has no frame: it is told by server-sent events.
_FIELDS = {
    "task_status_changed": "task_id status agent_id? progress? unverified?",
    "task_assigned": "task_id agent_id",
    "task_blocked": "task_id blocked_by",
    "task_unblocked": "task_id unblocked_by",
    "agent_created": "agent_id agent_type",
    "agent_status_changed": "agent_id status current_task_id? progress?",
    "agent_retired": "agent_id",
    "agent_resumed": "agent_id",
    "activity_update": "activity_type agent message task_id?",
    "test_result": "task_id passed failed errors skipped duration",
    "correction_attempt": "task_id attempt_number max_attempts status error_summary?",
    "progress_update": "completed failed total",
    "commit_created": "task_id commit_hash message files",
}
FRAMES = {kind: tuple(fields.split()) for kind, fields in _FIELDS.items()}

Frame = dict[str, Any]


def frame(journaled: status_pb2.JournaledEvent) -> Frame | None:
    """The frame of an event; None where its payload has none."""
    event = journaled.event
    kind = event.WhichOneof("payload")
    if kind is None or kind not in FRAMES:
        return None
    payload: Message = getattr(event, kind)
    flat: Frame = {"type": kind}
    for field in FRAMES[kind]:
        name = field.removesuffix("?")
        if name == field or _is_set(payload, name):
            flat[name] = _value(payload, name)
    if event.project:
        flat["project_id"] = event.project
    return flat | {"timestamp": event.event_time.ToJsonString(), "cursor": journaled.cursor}


def _is_set(payload: Message, name: str) -> bool:
    if payload.DESCRIPTOR.fields_by_name[name].has_presence:
        return payload.HasField(name)
    return bool(getattr(payload, name))


def _value(payload: Message, name: str) -> Any:
    field, value = payload.DESCRIPTOR.fields_by_name[name], getattr(payload, name)
    if field.enum_type is not None:
        return _lower_name(field.enum_type, value)
    return list(value) if field.is_repeated else value


def _lower_name(enum: Any, number: int) -> str:
    """`in_progress` for TASK_STATE_IN_PROGRESS; `unknown` for a value of a later version."""
    value = enum.values_by_number.get(number)
    if value is None:
        return "unknown"
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name).removeprefix(prefix).lower()
