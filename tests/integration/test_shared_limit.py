"""The bench of the shared limit, in small: worker processes that hit it finish, and nothing fails for it."""

from pathlib import Path

import pytest

from bench.throttle import Shape, measure
from codeframe.v1 import state_pb2

pytestmark = pytest.mark.timeout(300)  # five processes to start, on shared cores


async def test_worker_processes_that_share_a_limit_finish_without_a_failed_attempt(tmp_path: Path) -> None:
    shape = Shape(attempts=6, workers=2, turns=4, limit=3, seconds=270)
    found = await measure(tmp_path, shape)
    print(f"{found.took:.1f} s, {found.ratio:.2f} times what the limit allows; {found.refused} refused")
    assert found.run.state == state_pb2.RUN_STATE_COMPLETED
    assert found.failed == []
    assert found.served == shape.attempts * shape.turns, "no turn is asked for twice"
    assert 0 < found.refused < found.served / 2, "the gates slow down after what is refused"
    assert found.pauses_told > 0
