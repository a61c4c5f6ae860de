"""A result is under 1 MiB, whatever the attempt did."""

from datetime import UTC, datetime, timedelta

from services.workers.outcome import Outcome
from services.workers.translation import write_result
from services.workers.work import FileChange, ModelUsage, TaskResult, TurnUsage, VerificationRun

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WIDE = "𝄞"  # four bytes


def test_a_result_of_everything_at_its_longest_is_under_a_mebibyte() -> None:
    run = VerificationRun(
        command=WIDE * 2000,
        commit="c" * 40,
        exit_code=1,
        green=False,
        summary=WIDE * 4000,
        passed=1,
        failed=1,
        errors=0,
        skipped=0,
        red_tests=(WIDE * 1000,) * 4,
        report_digest="d" * 64,
        duration=timedelta(seconds=1),
        sandbox_mode="bubblewrap",
        timed_out=False,
    )
    usage = ModelUsage(WIDE * 1000, turns=1, input_tokens=1 << 40)
    result = TaskResult(
        "a",
        Outcome.VERIFICATION_FAILED,
        WIDE * 100_000,
        0,
        NOW,
        NOW,
        files=tuple(FileChange(f"{n}{WIDE * 1000}", "modified", "1", "2", "3" * 64) for n in range(5000)),
        verifications=(run,) * 101,
        usage=(usage,) * 5,
        turns=tuple(TurnUsage(n, usage, (WIDE * 1000,) * 5, timedelta(1)) for n in range(10_000)),
    )
    told = write_result(result)
    assert told.ByteSize() < 1 << 20
    assert (told.file_count, len(told.verifications)) == (5000, 10)
    assert 0 < len(told.files) < 5000
    assert [turn.turn for turn in told.turns[:3]] == [0, 1, 2]
