"""What the next attempt of a task is told of the last one: why it ended, its patch, its red tests."""

from collections.abc import Collection
from contextlib import aclosing

from google.protobuf import json_format

from codeframe.v1 import evidence_pb2, worker_pb2
from services.lead.artifacts import ArtifactStore
from services.lead.machine.task import PreviousAttempt
from services.lead.public import outcome_to_proto

DIFF_LIMIT = 24_000
RED_LIMIT = 16_000
ONE_TEST_LIMIT = 2_000
"""Characters, all three: together a few thousand tokens."""

_RED = (evidence_pb2.TEST_STATE_FAILED, evidence_pb2.TEST_STATE_ERROR)


async def previous_attempt(
    artifacts: ArtifactStore, previous: PreviousAttempt, excused: Collection[str]
) -> worker_pb2.PreviousAttempt:
    """Tell of the last attempt what its artifacts hold. `excused` are tests that are red at the base."""
    told = worker_pb2.PreviousAttempt(outcome=outcome_to_proto(previous.outcome), message=previous.message)
    if previous.attempt_id:
        told.diff = await _diff(artifacts, previous.attempt_id)
    if previous.report_attempt:
        told.red_tests = await _red_tests(artifacts, previous.report_attempt, excused)
    return told


async def _diff(artifacts: ArtifactStore, attempt_id: str) -> str:
    """The beginning of an attempt's patch; empty where it has none."""
    data = b""
    try:
        async with aclosing(artifacts.read(attempt_id, "diff")) as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > 4 * DIFF_LIMIT:
                    break
    except FileNotFoundError:
        return ""
    text = data.decode(errors="replace")
    return text if len(text) <= DIFF_LIMIT else f"{text[:DIFF_LIMIT]}\n[... the rest is left out ...]\n"


async def _red_tests(artifacts: ArtifactStore, attempt_id: str, excused: Collection[str]) -> str:
    """The red tests of a report, each with what it printed; empty where there is no report."""
    data = await artifacts.read_whole(attempt_id, "test-report")
    if data is None:
        return ""
    report = json_format.Parse(data, evidence_pb2.TestReport(), ignore_unknown_fields=True)
    red = [test for test in report.tests if test.state in _RED and test.id not in excused]
    told, size = [], 0
    for at, test in enumerate(red):
        text = f"{test.id}\n{test.message[:ONE_TEST_LIMIT]}".strip()
        size += len(text)
        if size > RED_LIMIT:
            told.append(f"[... and {len(red) - at} more ...]")
            break
        told.append(text)
    return "\n\n".join(told)
