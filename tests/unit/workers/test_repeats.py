"""When an agent is stuck: the same action, or the same result, without anything new between."""

import pytest

from services.workers.model.conversation import ToolCall, ToolResult
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.repeats import SAME_ACTIONS, SAME_RESULTS, Repeats

RED = "FAILED test_a.py::test - <Thing object at 0x7f3a5c> in {n}.{n}2s at 12:0{n}:07\nexit code 1; 1 failed"


def call(name: str, **given: object) -> tuple[ToolCall, ...]:
    return (ToolCall("id", name, given),)


def times(repeats: Repeats, calls: tuple[ToolCall, ...], text: str, error: bool = False) -> None:
    repeats.did(calls)
    repeats.found(calls, (ToolResult("id", text, error),))


def test_the_same_action_is_known_by_what_it_says_not_by_how_it_is_spaced() -> None:
    repeats = Repeats()
    for n in range(1, SAME_ACTIONS):
        repeats.did(call("grep", pattern=" " * n + f"took {n} ms at 0x{n}"))
    with pytest.raises(AttemptFailed, match="did the same 5 times over: grep took") as raised:
        repeats.did(call("grep", pattern="took 9 ms at 0x9"))
    assert raised.value.outcome is Outcome.STUCK


def test_the_same_result_of_ever_new_actions_is_stuck_too() -> None:
    repeats = Repeats()
    for n in range(1, SAME_RESULTS):
        times(repeats, call("write_file", path="a.py", content="x" * n), "wrote a.py")
        times(repeats, call("run_tests", paths=[str(n)]), RED.format(n=n))
    with pytest.raises(AttemptFailed, match="found the same 10 times over, at last by run_tests") as raised:
        times(repeats, call("run_tests"), RED.format(n=0))
    assert raised.value.outcome is Outcome.STUCK


def test_edits_that_never_match_are_stuck() -> None:
    repeats, missed = Repeats(), "a.py: old_text is not in it."
    for n in range(1, SAME_RESULTS):
        times(repeats, call("edit_file", old_text="x" * n), missed, error=True)
    with pytest.raises(AttemptFailed, match="found the same"):
        times(repeats, call("edit_file", old_text="y"), missed, error=True)


def test_something_new_between_is_not_stuck() -> None:
    repeats = Repeats()
    for n in range(3 * SAME_RESULTS):
        times(repeats, call("run_tests", paths=[str(n)]), RED.format(n=1))
        if n % 5 == 0:
            times(repeats, call("read_file", path=f"{n}.py"), f"1\tfile number {n}!")


@pytest.mark.parametrize("text", ["wrote a.py", "12 passed\nexit code 0; 12 passed"])
def test_writes_and_green_tests_may_say_the_same_for_ever(text: str) -> None:
    repeats = Repeats()
    for n in range(3 * SAME_RESULTS):
        tool = "write_file" if text.startswith("wrote") else "run_tests"
        times(repeats, call(tool, path=str(n)), text)


def test_a_run_without_a_test_is_not_green() -> None:
    repeats = Repeats()
    for n in range(1, SAME_RESULTS):
        times(repeats, call("run_tests", paths=[str(n)]), "exit code 0; no test ran")
    with pytest.raises(AttemptFailed, match="found the same"):
        times(repeats, call("run_tests"), "exit code 0; no test ran")
