"""The async client of a lead: `Client`, its resuming `Watch`, and `CodeframeError`."""

from codeframe.client.backoff import Backoff
from codeframe.client.client import Client
from codeframe.client.retry import RetryPolicy
from codeframe.client.watch import SnapshotStarted, Watch, WatchBroken, WatchItem
from codeframe.errors import CodeframeError, Violation

__all__ = [
    "Backoff",
    "Client",
    "CodeframeError",
    "RetryPolicy",
    "SnapshotStarted",
    "Violation",
    "Watch",
    "WatchBroken",
    "WatchItem",
]
