"""What a follower knows of a run, and how it is shown."""

import io
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from codeframe.cli.screen import Screen
from codeframe.cli.view import UNCONFINED, RunView
from codeframe.client import SnapshotStarted, WatchItem
from codeframe.v1 import events_pb2, evidence_pb2, lead_pb2, state_pb2, status_pb2

_revisions = itertools.count(100)


def event(revision: int = 0, **payload: Any) -> status_pb2.JournaledEvent:
    told = events_pb2.Event(run_id="r", **payload)
    return status_pb2.JournaledEvent(revision=revision or next(_revisions), cursor="c", event=told)


def changed(task_id: str, state: state_pb2.TaskState.ValueType, **fields: Any) -> status_pb2.JournaledEvent:
    return event(task_status_changed=events_pb2.TaskStatusChanged(task_id=task_id, status=state, **fields))


def view_of(*tasks: lead_pb2.Task) -> RunView:
    view = RunView()
    rows: list[WatchItem] = [SnapshotStarted(), lead_pb2.Run(run_id="r", title="T", revision=50), *tasks]
    for row in rows:
        view.apply(row)
    return view


def task(task_id: str = "api", **fields: Any) -> lead_pb2.Task:
    return lead_pb2.Task(run_id="r", task_id=task_id, role="backend", revision=50, **fields)


def test_what_nothing_verified_says_so_wherever_it_completed() -> None:
    view = view_of(task(state=state_pb2.TASK_STATE_IN_PROGRESS, unverified=True))
    assert view.apply(changed("api", state_pb2.TASK_STATE_COMPLETED)) == "api: completed, UNVERIFIED"
    done = task("docs", state=state_pb2.TASK_STATE_COMPLETED, unverified=True, commit="a" * 40)
    assert view_of(done).tasks["docs"].what == "aaaaaaaaaa UNVERIFIED"


def instant(text: str) -> Timestamp:
    made = Timestamp()
    made.FromJsonString(f"2026-11-01T{text}Z")
    return made


def throttled(now: str, until: str, *, unavailable: bool = False) -> status_pb2.JournaledEvent:
    told = events_pb2.ProviderThrottled(
        model_family="claude-sonnet",
        resume_time=instant(until),
        unavailable=unavailable,
        message="HTTP 529: busy",
    )
    return event(event_time=instant(now), provider_throttled=told)


def test_a_provider_that_is_waited_for_is_shown_until_then_with_the_reason() -> None:
    view = view_of()
    waits = "claude-sonnet: waits for the provider until 12:00:30 UTC: HTTP 529: busy"
    assert view.apply(throttled("12:00:00", "12:00:30")) == waits
    assert view.paused(datetime(2026, 11, 1, 12, 0, 29, tzinfo=UTC)) == [waits]
    after = datetime(2026, 11, 1, 12, 0, 31, tzinfo=UTC)
    assert view.paused(after) == []
    given_up = (
        "claude-sonnet: the provider was given up; one attempt asks it again at 12:00:30 UTC: HTTP 529: busy"
    )
    assert view.apply(throttled("12:00:00", "12:00:30", unavailable=True)) == given_up
    assert view.paused(after) == [given_up], "until that one was served"
    assert view.apply(throttled("12:00:33", "12:00:33")) == "claude-sonnet: the provider serves again"
    assert view.paused(after) == []


def test_a_pause_that_held_before_is_told_by_the_workers() -> None:
    view, worker = view_of(), lead_pb2.Worker(name="w", sandbox_mode="bubblewrap")
    worker.provider_pauses.add(
        model_family="claude-opus", resume_time=instant("12:00:30"), message="cannot be reached"
    )
    told = "claude-opus: waits for the provider until 12:00:30 UTC: cannot be reached"
    assert view.apply(worker) == told
    assert view.apply(worker) == "", "once, whichever workers meet it"
    assert view.paused(datetime(2026, 11, 1, 12, tzinfo=UTC)) == [told]


def test_what_nothing_verified_is_never_shown_green() -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100, color_system="standard")
    green, done = "\x1b[32m", state_pb2.TASK_STATE_COMPLETED
    terminal.print(Screen(view_of(task("docs", state=done, unverified=True)), terminal).picture())
    assert "UNVERIFIED" in shown.getvalue()
    assert green not in shown.getvalue()
    terminal.print(Screen(view_of(task("api", state=done)), terminal).picture())
    assert green in shown.getvalue()


def test_each_transition_of_a_task_is_a_line() -> None:
    view = view_of(task(state=state_pb2.TASK_STATE_PENDING, depends_on=["model"]))
    told = [
        changed("api", state_pb2.TASK_STATE_PENDING, waiting_for=state_pb2.WAITING_FOR_DEPENDENCIES),
        changed("api", state_pb2.TASK_STATE_ASSIGNED, agent_id="w/backend"),
        changed("api", state_pb2.TASK_STATE_IN_PROGRESS, phase=state_pb2.TASK_PHASE_WORKING, progress=10),
        changed("api", state_pb2.TASK_STATE_IN_PROGRESS, phase=state_pb2.TASK_PHASE_WORKING, progress=20),
        changed("api", state_pb2.TASK_STATE_IN_PROGRESS, phase=state_pb2.TASK_PHASE_VERIFYING),
        event(test_result=events_pb2.TestResult(task_id="api", passed=3, failed=1)),
        event(test_result=events_pb2.TestResult(task_id="api", passed=3, failed=1, green=True)),
        event(
            correction_attempt=events_pb2.CorrectionAttempt(
                task_id="api",
                attempt_number=1,
                max_attempts=3,
                status=events_pb2.CORRECTION_STATUS_STARTED,
            )
        ),
        event(
            commit_created=events_pb2.CommitCreated(task_id="api", commit_hash="a" * 40, message="feat: x")
        ),
        changed("api", state_pb2.TASK_STATE_COMPLETED, progress=100),
        event(run_status_changed=events_pb2.RunStatusChanged(status=state_pb2.RUN_STATE_COMPLETED)),
    ]
    assert [view.apply(each) for each in told] == [
        "api: pending, waits for model",
        "api: assigned",
        "api: in progress, working",
        "",
        "api: in progress, verifying",
        "api: verification red: 3 passed, 1 failed, 0 errors, 0 skipped",
        "api: verification green: 3 passed, 1 failed, 0 errors (at the base, too), 0 skipped",
        "api: correction 1 of 3 started",
        "api: commit aaaaaaaaaa feat: x",
        "api: completed, aaaaaaaaaa",
        "run: COMPLETED",
    ]


def test_planning_is_told_and_the_plan_shown() -> None:
    view = view_of()
    assert "no tasks yet" in view.summary()
    started = events_pb2.AttemptStarted(number=1, kind=state_pb2.ATTEMPT_KIND_PLAN)
    reads = events_pb2.ActivityUpdate(activity_type="tool", message="read_file README")
    ended = events_pb2.AttemptEnded(
        number=1, kind=state_pb2.ATTEMPT_KIND_PLAN, outcome=evidence_pb2.OUTCOME_STUCK
    )
    assert view.apply(event(attempt_id="r.plan-1", attempt_started=started)) == "planning: attempt 1"
    assert view.apply(event(attempt_id="r.plan-1", activity_update=reads)) == "planning: read_file README"
    assert "planning: read_file README" in picture(view)
    assert view.apply(event(attempt_id="r.plan-1", attempt_ended=ended)) == "planning: attempt 1 stuck"
    assert "planning" not in picture(view)
    view.apply(task(title="The API"))
    view.apply(task("web", title="The page", depends_on=["api"]))
    assert view.plan("Orders").splitlines() == [
        "the plan: Orders",
        "  api [backend] The API",
        "  web [backend] The page (after api)",
    ]


def test_roles_that_no_worker_serves_are_told_as_that_changes() -> None:
    view = view_of()
    planning = state_pb2.RUN_STATE_PLANNING
    told = [
        events_pb2.RunStatusChanged(status=planning),
        events_pb2.RunStatusChanged(status=planning, unserved_roles=["planner"]),
        events_pb2.RunStatusChanged(status=planning, unserved_roles=["planner"], unserved_reason="w: no key"),
        events_pb2.RunStatusChanged(status=planning),
    ]
    lines = []
    for each in told:
        lines.append(view.apply(event(run_status_changed=each)))
        shown = "no worker serves: planner" in picture(view)
        assert shown is bool(each.unserved_roles)
    assert lines == [
        "run: PLANNING",
        "no worker serves: planner",
        "no worker serves: planner (w: no key)",
        "every role is served",
    ]


def test_a_run_that_ends_for_want_of_a_worker_does_not_say_that_all_is_served() -> None:
    view = view_of()
    lacking = events_pb2.RunStatusChanged(status=state_pb2.RUN_STATE_PLANNING, unserved_roles=["docs"])
    view.apply(event(run_status_changed=lacking))
    ending = events_pb2.RunStatusChanged(status=state_pb2.RUN_STATE_CANCELLING)
    assert view.apply(event(run_status_changed=ending)) == "run: CANCELLING"


def test_a_retry_says_why() -> None:
    view = view_of(task(state=state_pb2.TASK_STATE_IN_PROGRESS))
    ended = events_pb2.AttemptEnded(
        task_id="api", number=1, outcome=evidence_pb2.OUTCOME_VERIFICATION_FAILED, message="2 red\nmore"
    )
    assert view.apply(event(attempt_ended=ended)) == "api: attempt 1 verification failed 2 red"
    again = changed(
        "api",
        state_pb2.TASK_STATE_PENDING,
        waiting_for=state_pb2.WAITING_FOR_RETRY_TIME,
        reason=evidence_pb2.OUTCOME_VERIFICATION_FAILED,
    )
    assert view.apply(again) == "api: pending, waits for retry time after verification failed"


def test_who_waits_for_the_provider_says_until_when() -> None:
    view, pending = view_of(task(state=state_pb2.TASK_STATE_PENDING)), state_pb2.TASK_STATE_PENDING
    until = Timestamp(seconds=12 * 3600 + 3 * 60 + 5)
    waits = {"waiting_for": state_pb2.WAITING_FOR_PROVIDER, "retry_time": until}
    assert (
        view.apply(changed("api", pending, **waits)) == "api: pending, waits for provider until 12:03:05 UTC"
    )
    probe = changed("api", pending, waiting_for=state_pb2.WAITING_FOR_PROVIDER)
    assert view.apply(probe) == "api: pending, waits for provider"


def test_an_event_that_the_row_holds_already_changes_nothing() -> None:
    view = view_of(task(state=state_pb2.TASK_STATE_COMPLETED))
    old = events_pb2.TaskStatusChanged(task_id="api", status=state_pb2.TASK_STATE_ASSIGNED)
    assert view.apply(event(50, task_status_changed=old)) == ""
    assert view.tasks["api"].task.state == state_pb2.TASK_STATE_COMPLETED
    usage = evidence_pb2.ModelUsage(input_tokens=5, output_tokens=2)
    view.apply(event(49, usage_recorded=events_pb2.UsageRecorded(usage=usage)))
    assert (view.tokens_in, view.tokens_out) == (0, 0)
    view.apply(event(51, usage_recorded=events_pb2.UsageRecorded(usage=usage)))
    assert (view.tokens_in, view.tokens_out) == (5, 2)


def test_a_state_of_a_later_version_is_shown_by_its_number() -> None:
    view = view_of(task())
    later = events_pb2.TaskStatusChanged(task_id="api")
    later.status = 77  # type: ignore[assignment]
    assert view.apply(event(task_status_changed=later)) == "api: TaskState 77"


def test_a_worker_without_a_sandbox_is_said_once() -> None:
    view = view_of()
    assert view.apply(lead_pb2.Worker(name="a", sandbox_mode="bubblewrap")) == ""
    assert view.apply(lead_pb2.Worker(name="b", sandbox_mode="none")) == UNCONFINED
    assert view.apply(lead_pb2.Worker(name="c", sandbox_mode="none")) == ""


def console(*, terminal: bool, height: int = 20) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, height=height, color_system=None), out


def picture(view: RunView) -> str:
    terminal, out = console(terminal=True)
    terminal.print(Screen(view, terminal).picture())
    return out.getvalue()


def test_a_pipe_gets_lines_and_no_table() -> None:
    plain, out = console(terminal=False)
    view = view_of(task())
    with Screen(view, plain) as screen:
        screen.changed(view.apply(changed("api", state_pb2.TASK_STATE_ASSIGNED)))
        screen.changed("")
    assert out.getvalue() == "api: assigned\n"


@pytest.mark.parametrize("count", [3, 10_000])
def test_a_terminal_gets_a_table_no_higher_than_itself(count: int) -> None:
    terminal, out = console(terminal=True)
    view = view_of(*(task(f"t{n}", state=state_pb2.TASK_STATE_PENDING) for n in range(count)))
    view.apply(changed(f"t{count - 1}", state_pb2.TASK_STATE_IN_PROGRESS, phase=state_pb2.TASK_PHASE_SETUP))
    view.apply(event(activity_update=events_pb2.ActivityUpdate(task_id=f"t{count - 1}", message="pip [red]")))
    view.apply(lead_pb2.Worker(sandbox_mode="none"))
    terminal.print(Screen(view, terminal).picture())
    lines = out.getvalue().splitlines()
    assert len(lines) < 20
    assert lines[0].startswith(
        f"T: run r UNSPECIFIED: {count - 1} pending, 1 in progress; 0 tokens in, 0 out"
    )
    assert lines[1] == UNCONFINED
    working = next(line for line in lines if line.startswith(f"t{count - 1} "))
    assert "setup: pip [red]" in working
    assert ("more tasks" in lines[-1]) == (count > 20)


def test_a_long_line_of_an_agent_shortens_no_other_column() -> None:
    terminal, out = console(terminal=True)
    view = view_of(task("checkout-page", state=state_pb2.TASK_STATE_IN_PROGRESS))
    said = "makes the environment that the checks run in, or finds it made " * 3
    view.apply(event(activity_update=events_pb2.ActivityUpdate(task_id="checkout-page", message=said)))
    terminal.print(Screen(view, terminal).picture())
    row = next(line for line in out.getvalue().splitlines() if line.startswith("checkout-page"))
    assert row.split()[:4] == ["checkout-page", "backend", "in", "progress"]
    assert row.endswith("…")


def test_the_last_picture_stays() -> None:
    terminal, out = console(terminal=True)
    view = view_of(task(state=state_pb2.TASK_STATE_IN_PROGRESS))
    with Screen(view, terminal) as screen:
        screen.note("a line of our own")
        view.apply(changed("api", state_pb2.TASK_STATE_COMPLETED))
    assert "a line of our own" in out.getvalue()
    assert "completed" in out.getvalue()
