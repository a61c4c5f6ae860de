"""Doing the same, or finding the same, again and again."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence

from services.workers.calls import described
from services.workers.model.conversation import ToolCall, ToolResult
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.tools.clip import line
from services.workers.tools.toolbox import TOOLS

SAME_ACTIONS = 5
SAME_RESULTS = 10
GREEN = re.compile(r"exit code 0; (?!no test)")  # how the last line of a test run begins that is green

SPACES = re.compile(r"\s|\\[nrt]")  # also as JSON writes them
# What differs from run to run of the same: addresses, clock times, durations.
NOISE = re.compile(
    r"""0x[0-9a-f]+
    | (?:\d{4}-\d\d-\d\d[t\ ])? \d\d:\d\d:\d\d (?:[.,]\d+)?
    | \d+ (?:[.,]\d+)? \s? (?:ns|us|µs|ms|s|secs?|seconds?|mins?|minutes?) \b""",
    re.IGNORECASE | re.VERBOSE,
)


class Repeats:
    """Knows when an agent is stuck: it comes back to the same without anything new between."""

    def __init__(self) -> None:
        self._actions = _Seen()
        self._results = _Seen()

    def did(self, calls: Sequence[ToolCall]) -> None:
        """Take the calls of a turn. Raises AttemptFailed (STUCK)."""
        said = json.dumps([[call.name, call.input] for call in calls], sort_keys=True)
        if self._actions.count(said) >= SAME_ACTIONS:
            raise AttemptFailed(Outcome.STUCK, f"did the same {SAME_ACTIONS} times over: {described(calls)}")

    def found(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Take what came of them, but for what tells nothing: a write that was done, tests that are green.

        Raises AttemptFailed (STUCK).
        """
        of = {call.id: call.name for call in calls}
        told = [result.text for result in results if _tells(of[result.call_id], result)]
        if told and self._results.count("\n".join(told)) >= SAME_RESULTS:
            what = f"{described(calls)}: {line(told[-1], 300)}"
            raise AttemptFailed(Outcome.STUCK, f"found the same {SAME_RESULTS} times over, at last by {what}")


class _Seen:
    """Counts how often a text came again without any new one between."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()
        self._counts: Counter[bytes] = Counter()

    def count(self, text: str) -> int:
        """Count a text; spaces, durations and addresses in it make no difference."""
        digest = hashlib.sha256(SPACES.sub("", NOISE.sub("~", text)).encode(errors="replace")).digest()
        if digest not in self._known:
            self._known.add(digest)
            self._counts.clear()
        self._counts[digest] += 1
        return self._counts[digest]


def _tells(tool: str, result: ToolResult) -> bool:
    if result.is_error:
        return True
    is_write = tool in TOOLS and TOOLS[tool].writes
    return not is_write and not GREEN.match(result.text.rpartition("\n")[2])
