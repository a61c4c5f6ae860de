"""What is kept of an attempt as ProtoJSON: the test report and the changed files."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict

from services.workers.verification import TestCase, TestReport
from services.workers.work import FileChange

_PIECE = 2000  # tests or files


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


def _change_fields(change: FileChange) -> dict[str, str]:
    operation = {"operation": f"FILE_OPERATION_{change.operation.upper()}"}
    return {name: text for name, text in (asdict(change) | operation).items() if text}
