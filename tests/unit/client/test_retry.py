"""Which failures are asked again, as decisions."""

from datetime import timedelta

import grpc
import pytest

from codeframe.client import CodeframeError, RetryPolicy
from codeframe.client.backoff import Backoff

POLICY = RetryPolicy(Backoff(first=1.0, limit=8.0))


def error(
    reason: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, wait: float | None = None
) -> CodeframeError:
    after = timedelta(seconds=wait) if wait is not None else None
    return CodeframeError(code, f"ERROR_REASON_{reason}" if reason else "", "m", retry_after=after)


@pytest.mark.parametrize(
    ("failure", "failures", "delay"),
    [
        (error("UNAVAILABLE"), 1, 1.0),
        (error("UNAVAILABLE"), 3, 4.0),
        (error("UNAVAILABLE"), 1000, 8.0),
        (error("", grpc.StatusCode.INTERNAL), 2, 2.0),
        (error("", grpc.StatusCode.UNIMPLEMENTED), 1, 1.0),
        (error("CONTENTION", wait=30.0), 1, 30.0),
        (error("CONTENTION", wait=0.5), 1, 1.0),
        (error("INTERNAL"), 2, 2.0),
        (error("INTERNAL"), 3, None),
        (error("RUN_NOT_FOUND"), 1, None),
        (error("INVALID_PLAN"), 1, None),
        (error("A_LATER_REASON"), 1, None),
    ],
)
def test_delays(failure: CodeframeError, failures: int, delay: float | None) -> None:
    assert POLICY.delay(failure, failures, chance=0.0) == delay


def test_chance_takes_at_most_half() -> None:
    assert Backoff(first=1.0).delay(1, 1.0) == 0.5
