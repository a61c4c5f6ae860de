"""What an attempt broadcasts, as WatchAttempt tells it."""

from collections.abc import Sequence

from codeframe.v1 import events_pb2, state_pb2, worker_pb2
from services.workers.broadcast import Activity, Correction, Notice, TaskInProgress, TestsRan, TurnPaid
from services.workers.model.gate import Pause
from services.workers.notices import Batch, LoggedNotice
from services.workers.translation.result import write_duration, write_usage


def write_batch(
    batch: Batch, task_id: str, agent: str, pauses: Sequence[Pause]
) -> worker_pb2.WatchAttemptResponse:
    """Some notices of the attempt of a task, by an agent; or a heartbeat. Both tell the provider's pauses."""
    return worker_pb2.WatchAttemptResponse(
        notices=[_write_notice(entry, task_id, agent) for entry in batch.notices],
        idle=write_duration(batch.idle),
        provider_pauses=[write_pause(pause) for pause in pauses],
    )


def write_pause(pause: Pause) -> state_pb2.ProviderPause:
    """A pause of the provider."""
    message = state_pb2.ProviderPause(
        key_fingerprint=pause.key_fingerprint, model_family=pause.model_family, message=pause.message
    )
    message.resume_time.FromDatetime(pause.resume_time)
    return message


def _write_notice(entry: LoggedNotice, task_id: str, agent: str) -> worker_pb2.Notice:
    message = worker_pb2.Notice(sequence=entry.sequence)
    message.notice_time.FromDatetime(entry.time)
    _write_payload(message, entry.notice, task_id, agent)
    return message


def _write_payload(message: worker_pb2.Notice, notice: Notice, task_id: str, agent: str) -> None:
    match notice:
        case TaskInProgress():
            message.task_status_changed.CopyFrom(
                events_pb2.TaskStatusChanged(
                    task_id=task_id,
                    status=state_pb2.TASK_STATE_IN_PROGRESS,
                    agent_id=agent,
                    progress=notice.progress,
                    phase=state_pb2.TaskPhase.Value(f"TASK_PHASE_{notice.phase.name}"),
                )
            )
        case Activity():
            message.activity_update.CopyFrom(
                events_pb2.ActivityUpdate(
                    activity_type=notice.kind, agent=agent, message=notice.message, task_id=task_id
                )
            )
        case TestsRan():
            message.test_result.CopyFrom(
                events_pb2.TestResult(
                    task_id=task_id,
                    passed=notice.passed,
                    failed=notice.failed,
                    errors=notice.errors,
                    skipped=notice.skipped,
                    duration=notice.duration.total_seconds(),
                    green=notice.green,
                )
            )
        case Correction():
            message.correction_attempt.CopyFrom(
                events_pb2.CorrectionAttempt(
                    task_id=task_id,
                    attempt_number=notice.number,
                    max_attempts=notice.limit,
                    status=events_pb2.CorrectionStatus.Value(f"CORRECTION_STATUS_{notice.status.name}"),
                    error_summary=notice.error_summary,
                )
            )
        case TurnPaid():
            message.usage_recorded.CopyFrom(
                events_pb2.UsageRecorded(
                    task_id=task_id,
                    turn=notice.turn,
                    usage=write_usage(notice.usage),
                    provider_request_id=notice.provider_request_id,
                    duration=write_duration(notice.duration),
                )
            )
