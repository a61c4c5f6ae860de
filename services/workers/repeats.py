"""Doing the same again and again."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence

from services.workers.model.conversation import ToolCall

SPACES = re.compile(r"\s|\\[nrt]")  # also as JSON writes them


class Repeats:
    """Counts how often an action came again without any new one between."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._counts: Counter[bytes] = Counter()

    def count(self, calls: Sequence[ToolCall]) -> int:
        """Count the calls of a turn; how their texts are spaced makes no difference."""
        said = json.dumps([[call.name, call.input] for call in calls], sort_keys=True)
        action = hashlib.sha256(SPACES.sub("", said).encode()).digest()
        if action not in self._seen:
            self._seen.add(action)
            self._counts.clear()
        self._counts[action] += 1
        return self._counts[action]
