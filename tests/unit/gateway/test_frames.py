"""The old flat frames, field for field."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.v1 import events_pb2, evidence_pb2, state_pb2, status_pb2
from gateway.frames import FRAMES, frame

TIME = Timestamp(seconds=1_700_000_000, nanos=250_000_000)
COMMON = {"project_id": "shop", "timestamp": "2023-11-14T22:13:20.250Z", "cursor": "log.7"}


def flat(project: str = "shop", **payload: Any) -> dict[str, Any] | None:
    event = events_pb2.Event(run_id="r", project=project, event_time=TIME, **payload)
    return frame(status_pb2.JournaledEvent(revision=7, cursor="log.7", event=event))


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (
            events_pb2.TaskStatusChanged(
                task_id="api",
                status=state_pb2.TASK_STATE_IN_PROGRESS,
                agent_id="w1/backend",
                progress=0,
                phase=state_pb2.TASK_PHASE_WORKING,
            ),
            {"task_id": "api", "status": "in_progress", "agent_id": "w1/backend", "progress": 0},
        ),
        (
            events_pb2.TaskStatusChanged(task_id="api", status=state_pb2.TASK_STATE_PENDING),
            {"task_id": "api", "status": "pending"},
        ),
        (
            events_pb2.TaskStatusChanged(
                task_id="api", status=state_pb2.TASK_STATE_COMPLETED, unverified=True
            ),
            {"task_id": "api", "status": "completed", "unverified": True},
        ),
        (events_pb2.TaskAssigned(task_id="api", agent_id="a"), {"task_id": "api", "agent_id": "a"}),
        (
            events_pb2.TaskBlocked(task_id="b", blocked_by=["a"]),
            {"task_id": "b", "blocked_by": ["a"]},
        ),
        (
            events_pb2.TaskUnblocked(task_id="b", unblocked_by=["a"]),
            {"task_id": "b", "unblocked_by": ["a"]},
        ),
        (
            events_pb2.AgentCreated(agent_id="a", agent_type="backend"),
            {"agent_id": "a", "agent_type": "backend"},
        ),
        (
            events_pb2.AgentStatusChanged(
                agent_id="a", status=state_pb2.AGENT_STATE_WORKING, current_task_id="api", progress=10
            ),
            {"agent_id": "a", "status": "working", "current_task_id": "api", "progress": 10},
        ),
        (
            events_pb2.AgentStatusChanged(agent_id="a", status=state_pb2.AGENT_STATE_IDLE),
            {"agent_id": "a", "status": "idle"},
        ),
        (events_pb2.AgentRetired(agent_id="a"), {"agent_id": "a"}),
        (events_pb2.AgentResumed(agent_id="a"), {"agent_id": "a"}),
        (
            events_pb2.ActivityUpdate(activity_type="tool", agent="a", message="read x"),
            {"activity_type": "tool", "agent": "a", "message": "read x"},
        ),
        (
            events_pb2.TestResult(task_id="api", passed=3, duration=1.5, green=True),
            {"task_id": "api", "passed": 3, "failed": 0, "errors": 0, "skipped": 0, "duration": 1.5},
        ),
        (
            events_pb2.CorrectionAttempt(
                task_id="api",
                attempt_number=1,
                max_attempts=3,
                status=events_pb2.CORRECTION_STATUS_STARTED,
                error_summary="E",
            ),
            {
                "task_id": "api",
                "attempt_number": 1,
                "max_attempts": 3,
                "status": "started",
                "error_summary": "E",
            },
        ),
        (
            events_pb2.ProgressUpdate(completed=0, failed=0, total=6),
            {"completed": 0, "failed": 0, "total": 6},
        ),
        (
            events_pb2.CommitCreated(
                task_id="api", commit_hash="abc", message="m", files=["a"], file_count=1
            ),
            {"task_id": "api", "commit_hash": "abc", "message": "m", "files": ["a"]},
        ),
    ],
)
def test_names_and_fields(payload: Any, fields: dict[str, Any]) -> None:
    name = next(
        field.name
        for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
        if field.message_type is payload.DESCRIPTOR
    )
    assert flat(**{name: payload}) == {"type": name, **fields, **COMMON}


def test_every_frame_is_of_a_payload_and_its_fields() -> None:
    payloads = {field.name: field for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
    for kind, fields in FRAMES.items():
        message = payloads[kind].message_type
        assert message is not None
        names = {field.name for field in message.fields}
        assert {name.removesuffix("?") for name in fields} <= names


def test_what_the_old_system_did_not_know_has_no_frame() -> None:
    assert flat(usage_recorded=events_pb2.UsageRecorded(usage=evidence_pb2.ModelUsage())) is None
    assert flat() is None


def test_a_fleet_event_has_no_project() -> None:
    told = flat(project="", agent_retired=events_pb2.AgentRetired(agent_id="a"))
    assert told is not None
    assert "project_id" not in told


def test_a_state_of_a_later_version_is_unknown() -> None:
    changed = events_pb2.TaskStatusChanged(task_id="a")
    changed.status = 99  # type: ignore[assignment]
    told = flat(task_status_changed=changed)
    assert told is not None
    assert told["status"] == "unknown"
