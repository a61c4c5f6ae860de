"""An attempt's result as the API has it."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from codeframe.v1 import evidence_pb2
from services.workers.outcome import Outcome
from services.workers.work import (
    Artifact,
    FileChange,
    ModelUsage,
    MutationCheck,
    TaskResult,
    TurnUsage,
    VerificationRun,
)

M = TypeVar("M", bound=Message)

_FILES_BYTES = 256 << 10  # of those told in a result
_TURNS_BYTES = 128 << 10
_RUNS = 10  # verifications told in a result
_MESSAGE_LIMIT = 16_000  # characters
_NAME_LIMIT = 200  # characters of what a provider names


def _write_outcome(outcome: Outcome) -> evidence_pb2.Outcome.ValueType:
    return evidence_pb2.Outcome.Value(f"OUTCOME_{outcome.name}")


def write_result(result: TaskResult) -> evidence_pb2.TaskResult:
    """The result of an attempt. Bytes of its artifacts are not in it."""
    message = evidence_pb2.TaskResult(
        attempt_id=result.attempt_id,
        outcome=_write_outcome(result.outcome),
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
        usage=[write_usage(usage) for usage in result.usage],
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
        duration=write_duration(one.duration),
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
        duration=write_duration(check.duration),
    )


def _write_turn(turn: TurnUsage) -> evidence_pb2.TurnUsage:
    return evidence_pb2.TurnUsage(
        turn=turn.turn,
        usage=write_usage(turn.usage),
        provider_request_ids=[name[:_NAME_LIMIT] for name in turn.request_ids],
        duration=write_duration(turn.duration),
    )


def write_usage(usage: ModelUsage) -> evidence_pb2.ModelUsage:
    """What calls of one model took."""
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


def write_duration(duration: timedelta) -> Duration:
    """A timedelta as a Duration."""
    message = Duration()
    message.FromTimedelta(duration)
    return message
