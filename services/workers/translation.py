"""Between the API's messages and the worker's words. Nothing is decided here."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from codeframe.amounts import read_budget
from codeframe.plan import Plan
from codeframe.v1 import events_pb2, evidence_pb2, plan_pb2, state_pb2, worker_pb2
from services.workers.broadcast import Activity, Correction, Notice, TaskInProgress, TestsRan, TurnPaid
from services.workers.model.gate import Pause
from services.workers.notices import Batch, LoggedNotice
from services.workers.outcome import Outcome
from services.workers.verification import TestCase, TestReport
from services.workers.work import (
    Artifact,
    AttemptRequest,
    Baseline,
    Checks,
    FileChange,
    Limits,
    ModelUsage,
    MutationCheck,
    PlanWork,
    PreviousAttempt,
    Protected,
    ScopeOverride,
    TaskResult,
    TaskWork,
    TurnUsage,
    VerificationRun,
    VerifyWork,
)

M = TypeVar("M", bound=Message)

_ORPHAN_GRACE = Limits().orphan_grace
_PIECE = 2000  # tests or files
_FILES_BYTES = 256 << 10  # of those told in a result
_TURNS_BYTES = 128 << 10
_RUNS = 10  # verifications told in a result
_MESSAGE_LIMIT = 16_000  # characters
_NAME_LIMIT = 200  # characters of what a provider names


def read_request(request: worker_pb2.ExecuteTaskRequest) -> AttemptRequest:
    """The attempt that a valid request asks for."""
    return AttemptRequest(
        attempt_id=request.attempt_id,
        run_id=request.run_id,
        role=request.role,
        repository=request.repository,
        run_base_commit=request.run_base_commit,
        checks=_read_checks(request.checks),
        limits=_read_limits(request.limits),
        work=_read_work(request),
    )


def _read_work(request: worker_pb2.ExecuteTaskRequest) -> TaskWork | VerifyWork | PlanWork:
    match request.WhichOneof("work"):
        case "task":
            return _read_task(request.task)
        case "plan":
            return _read_plan(request.plan)
        case _:
            return _read_verify(request.verify)


def _read_checks(checks: worker_pb2.Checks) -> Checks:
    known = checks.baseline
    baseline = Baseline(frozenset(known.passing_tests), frozenset(known.red_tests), frozenset(known.steering))
    return Checks(
        verification=checks.verification,
        report=checks.report,
        setup=checks.setup,
        setup_paths=tuple(checks.setup_paths),
        baseline=baseline if checks.HasField("baseline") else None,
    )


def _read_limits(limits: worker_pb2.AttemptLimits) -> Limits:
    has_grace = limits.HasField("orphan_grace")
    return Limits(
        attempt_timeout=limits.attempt_timeout.ToTimedelta(),
        test_timeout=limits.test_timeout.ToTimedelta(),
        orphan_grace=limits.orphan_grace.ToTimedelta() if has_grace else _ORPHAN_GRACE,
        turns=limits.turns,
        corrections=limits.corrections,
        allowance=read_budget(limits.allowance),
    )


def _read_task(task: worker_pb2.TaskWork) -> TaskWork:
    return TaskWork(
        task_id=task.task_id,
        title=task.title,
        description=task.description,
        number=task.number,
        base_commit=task.base_commit,
        branch=task.branch,
        start_commit=task.start_commit,
        model=task.model,
        may_change=frozenset(_PROTECTED[kind] for kind in task.may_change),
        previous=_read_previous(task.previous) if task.HasField("previous") else None,
        unverified=task.unverified,
        scope=ScopeOverride(tuple(task.scope.allow), tuple(task.scope.deny)),
    )


def _read_plan(plan: worker_pb2.PlanWork) -> PlanWork:
    return PlanWork(
        goal=plan.goal,
        base_commit=plan.base_commit,
        roles=tuple(plan.roles),
        number=plan.number,
        model=plan.model,
        previous=_read_previous(plan.previous) if plan.HasField("previous") else None,
    )


def _read_previous(previous: worker_pb2.PreviousAttempt) -> PreviousAttempt:
    return PreviousAttempt(
        _outcome_name(previous.outcome), previous.message, previous.diff, previous.red_tests
    )


def _read_verify(verify: worker_pb2.VerifyWork) -> VerifyWork:
    return VerifyWork(commit=verify.commit, branch=verify.branch)


def write_plan(plan: Plan) -> plan_pb2.Plan:
    """A plan as the API has it."""
    tasks = [
        plan_pb2.PlannedTask(
            id=task.id,
            title=task.title,
            description=task.description,
            role=task.role,
            depends_on=task.depends_on,
            priority=task.priority,
            verification=task.verification,
            may_change=sorted(_PROTECTED_VALUE[kind.value] for kind in task.may_change),
        )
        for task in plan.tasks
    ]
    return plan_pb2.Plan(title=plan.title, tasks=tasks)


def read_cancel(reason: worker_pb2.CancelReason.ValueType) -> Outcome:
    """How a cancelled attempt is to end."""
    stalled = reason == worker_pb2.CANCEL_REASON_STALLED
    return Outcome.TIMED_OUT if stalled else Outcome.CANCELLED


def write_outcome(outcome: Outcome) -> evidence_pb2.Outcome.ValueType:
    """The outcome's value in the API."""
    return evidence_pb2.Outcome.Value(f"OUTCOME_{outcome.name}")


def write_result(result: TaskResult) -> evidence_pb2.TaskResult:
    """The result of an attempt. Bytes of its artifacts are not in it."""
    message = evidence_pb2.TaskResult(
        attempt_id=result.attempt_id,
        outcome=write_outcome(result.outcome),
        message=result.message[:_MESSAGE_LIMIT],
        last_sequence=result.last_sequence,
        base_commit=result.base_commit,
        commit=result.commit,
        branch=result.branch,
        commit_subject=result.commit_subject,
        files=_fitting(map(_write_change, result.files), _FILES_BYTES),
        file_count=len(result.files),
        verifications=[_write_verification(one) for one in result.verifications[-_RUNS:]],
        corrections=result.corrections,
        usage=[_write_usage(usage) for usage in result.usage],
        turns=_fitting(map(_write_turn, result.turns), _TURNS_BYTES),
        artifacts=[_write_artifact(artifact) for artifact in (result.artifacts or {}).values()],
        sandbox_mode=result.sandbox_mode,
        model_endpoint=result.model_endpoint,
        unverified=result.unverified,
    )
    if (check := result.mutation_check) is not None:
        message.mutation_check.CopyFrom(_write_mutation_check(check))
    message.start_time.FromDatetime(result.start_time)
    message.end_time.FromDatetime(result.end_time)
    message.wall_time.FromTimedelta(result.wall_time)
    return message


def _write_change(change: FileChange) -> evidence_pb2.FileChange:
    operation = evidence_pb2.FileOperation.Value(f"FILE_OPERATION_{change.operation.upper()}")
    return evidence_pb2.FileChange(
        path=change.path,
        operation=operation,
        mode_before=change.mode_before,
        mode_after=change.mode_after,
        sha256_before=change.sha256_before,
        sha256_after=change.sha256_after,
    )


def _change_fields(change: FileChange) -> dict[str, str]:
    operation = {"operation": f"FILE_OPERATION_{change.operation.upper()}"}
    return {name: text for name, text in (asdict(change) | operation).items() if text}


def _fitting(messages: Iterable[M], limit: int) -> list[M]:
    """The first messages that together take at most so many bytes."""
    fitting: list[M] = []
    for message in messages:
        limit -= message.ByteSize() + 4
        if limit < 0:
            break
        fitting.append(message)
    return fitting


def _write_verification(one: VerificationRun) -> evidence_pb2.Verification:
    return evidence_pb2.Verification(
        command=one.command,
        commit=one.commit,
        exit_code=one.exit_code,
        green=one.green,
        summary=one.summary,
        passed=one.passed,
        failed=one.failed,
        errors=one.errors,
        skipped=one.skipped,
        red_tests=one.red_tests,
        report_digest=one.report_digest,
        duration=_write_duration(one.duration),
        sandbox_mode=one.sandbox_mode,
        timed_out=one.timed_out,
        collected=one.collected,
        report_artifact=one.report_artifact,
    )


def _write_mutation_check(check: MutationCheck) -> evidence_pb2.MutationCheck:
    return evidence_pb2.MutationCheck(
        commit=check.commit,
        tried=[
            evidence_pb2.Mutation(path=one.path, line=one.line, before=one.before, after=one.after)
            for one in check.tried
        ],
        failed_test=check.failed_test,
        not_done=check.not_done,
        duration=_write_duration(check.duration),
    )


async def write_report(report: TestReport, commit: str, gone: Sequence[str] = ()) -> bytes:
    """A TestReport message as ProtoJSON. It may be long: others in the loop get their turn meanwhile."""
    pieces: list[str] = []
    for start in range(0, len(report.tests), _PIECE):
        tests = report.tests[start : start + _PIECE]
        pieces.append(",".join(json.dumps(_write_case(test)) for test in tests))
        await asyncio.sleep(0)
    about = {"command": report.command, "commit": commit, "steering": report.steering, "gone_tests": gone}
    head = json.dumps({name: value for name, value in about.items() if value})
    return f'{head[:-1]}, "tests": [{",".join(pieces)}]}}'.encode()


def _write_case(test: TestCase) -> dict[str, str]:
    case = {"id": test.id, "state": f"TEST_STATE_{test.state.name}"}
    return case | {"message": test.message} if test.message else case


async def write_changes(changes: Sequence[FileChange], base: str, commit: str) -> bytes:
    """A FileChanges message as ProtoJSON. It may be long: others in the loop get their turn meanwhile."""
    pieces: list[str] = []
    for start in range(0, len(changes), _PIECE):
        told = map(_change_fields, changes[start : start + _PIECE])
        pieces.append(",".join(map(json.dumps, told)))
        await asyncio.sleep(0)
    head = json.dumps({"base_commit": base, "commit": commit})
    return f'{head[:-1]}, "files": [{",".join(pieces)}]}}'.encode()


def _write_turn(turn: TurnUsage) -> evidence_pb2.TurnUsage:
    return evidence_pb2.TurnUsage(
        turn=turn.turn,
        usage=_write_usage(turn.usage),
        provider_request_ids=[name[:_NAME_LIMIT] for name in turn.request_ids],
        duration=_write_duration(turn.duration),
    )


def _write_usage(usage: ModelUsage) -> evidence_pb2.ModelUsage:
    return evidence_pb2.ModelUsage(
        model=usage.model[:_NAME_LIMIT],
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


def _write_artifact(artifact: Artifact) -> evidence_pb2.Artifact:
    return evidence_pb2.Artifact(
        name=artifact.name,
        media_type=artifact.media_type,
        size=artifact.size,
        sha256=artifact.sha256,
        truncated=artifact.truncated,
    )


def write_batch(
    batch: Batch, task_id: str, agent: str, pauses: Sequence[Pause]
) -> worker_pb2.WatchAttemptResponse:
    """Some notices of the attempt of a task, by an agent; or a heartbeat. Both tell the provider's pauses."""
    return worker_pb2.WatchAttemptResponse(
        notices=[_write_notice(entry, task_id, agent) for entry in batch.notices],
        idle=_write_duration(batch.idle),
        provider_pauses=[write_pause(pause) for pause in pauses],
    )


def write_pause(pause: Pause) -> state_pb2.ProviderPause:
    """A pause of the provider."""
    message = state_pb2.ProviderPause(key_fingerprint=pause.key_fingerprint, model_family=pause.model_family)
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
                    usage=_write_usage(notice.usage),
                    provider_request_id=notice.provider_request_id,
                    duration=_write_duration(notice.duration),
                )
            )


def _write_duration(duration: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(duration)
    return message


def _outcome_name(outcome: evidence_pb2.Outcome.ValueType) -> str:
    known = outcome in evidence_pb2.Outcome.values()
    return evidence_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_").lower() if known else "internal"


_PROTECTED = {plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind.name}"): kind for kind in Protected}
_PROTECTED_VALUE = {kind.value: value for value, kind in _PROTECTED.items()}
