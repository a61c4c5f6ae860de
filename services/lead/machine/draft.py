"""A decision in the making: events, each folded as it is written, so that the next sees what it did."""

from datetime import datetime

from services.lead.machine.allowance import waits_for_budget
from services.lead.machine.events import (
    Event,
    ProgressUpdate,
    RunStatusChanged,
    TaskBlocked,
    TaskStatusChanged,
)
from services.lead.machine.fold import fold
from services.lead.machine.run import Run
from services.lead.machine.state import RunFailure, RunState
from services.lead.machine.task import Task, TaskState, WaitingFor

MESSAGE_LIMIT = 2000
"""Characters of a message in a public event, so that no event nears 64 KiB."""


def clip(text: str) -> str:
    """A text as a public event carries it: whole, or its head and tail."""
    if len(text) <= MESSAGE_LIMIT:
        return text
    half = MESSAGE_LIMIT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"


class Draft:
    """A copy of a run, and the events that lead to it from the run it was copied from.

    `run` is the state once `events` are in the journal; a draft whose append was refused is
    thrown away. `run.touched_tasks` and `run.touched_attempts` name what differs.
    """

    def __init__(self, run: Run, time: datetime) -> None:
        self.run = run.copy()
        self.time = time
        self.events: list[tuple[Event, datetime]] = []

    def emit(self, *events: Event, time: datetime | None = None) -> None:
        """Write events that happened at `time` (default: the happening's)."""
        for event in events:
            at = time or self.time
            fold(self.run, event, at)
            self.events.append((event, at))

    def tell_ready(self, task: Task, message: str = "") -> None:
        """A task may start: it waits for a slot, a worker of its role, the provider, or the budget."""
        unserved, hold = task.spec.role in self.run.core.unserved, self.run.hold_on(task)
        waiting = WaitingFor.WORKER if unserved else WaitingFor.PROVIDER if hold else WaitingFor.SLOT
        if waits_for_budget(self.run, task):
            waiting = WaitingFor.BUDGET
        previous = task.previous
        if unserved and not message:
            reason = self.run.core.unserved_reason
            message = f"no worker serves the role {task.spec.role}" + (f": {reason}" if reason else "")
        self.emit(
            TaskStatusChanged(
                task.id,
                TaskState.PENDING,
                waiting_for=waiting,
                reason=previous.outcome if previous else None,
                message=clip(message),
                retry_time=hold.until if hold and waiting is WaitingFor.PROVIDER else None,
            )
        )

    def tell_run(
        self, state: RunState, failure: RunFailure | None, unserved: tuple[str, ...] = (), reason: str = ""
    ) -> None:
        """The run's state changed, or which roles it waits for and why."""
        run = self.run
        self.emit(RunStatusChanged(state, failure, run.facts.branch, run.core.head, unserved, reason))

    def tell_tasks(self) -> None:
        """There are tasks: they wait for the base to be verified, or for others."""
        for task in list(self.run.tasks.values()):
            depends_on = task.spec.depends_on
            waiting = WaitingFor.DEPENDENCIES if depends_on else WaitingFor.BASE
            self.emit(TaskStatusChanged(task.id, TaskState.PENDING, waiting_for=waiting))
            if depends_on:
                self.emit(TaskBlocked(task.id, depends_on))
        self.tell_progress()

    def tell_progress(self) -> None:
        """The run's counts changed."""
        counts = self.run.counts
        self.emit(
            ProgressUpdate(
                counts[TaskState.COMPLETED],
                counts[TaskState.FAILED],
                len(self.run.tasks),
                self.run.unverified,
            )
        )
