"""What our own plugin for pytest and our reporter for node tell, line by line, as the tests run."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from services.workers.verification.parse import ReportError
from services.workers.verification.report import TestCase, TestState

MOST_STEERING = 500
STEERING_LENGTH = 1000
_PIECE = 500  # lines


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What was told. `steering` is what of the tree takes part in how tests are found, run or told.

    `unended` counts the sessions of a test runner that began and came to no end.
    """

    tests: tuple[TestCase, ...] = ()
    steering: tuple[str, ...] = ()
    began: int = 0
    unended: int = 0


async def read_witness(data: bytes) -> Witnessed:
    """Read the lines; one that was cut off at the end, by a kill, is left out. Raises ReportError."""
    tests: list[TestCase] = []
    steering: dict[str, None] = {}
    began, ended = 0, 0
    *lines, _ = data.split(b"\n")
    for number, text in enumerate(lines):
        if number % _PIECE == 0:
            await asyncio.sleep(0)
        try:
            line: Any = json.loads(text)
            if not isinstance(line, dict):
                raise TypeError(f"{type(line).__name__} in place of an object")
            if "id" in line:
                state = TestState(line["state"])
                tests.append(TestCase(str(line["id"]), state, str(line.get("message", ""))))
            elif "steers" in line and len(steering) < MOST_STEERING:
                steering[str(line["steers"])[:STEERING_LENGTH]] = None
            began += "start" in line
            ended += "end" in line
        except (ValueError, RecursionError, TypeError, KeyError) as problem:
            raise ReportError(f"something wrote between what the tests told: {problem}") from problem
    return Witnessed(tuple(tests), tuple(steering), began, began - ended)
