"""The aggregate of a run, its tasks and its attempts, that `fold` moves forward."""

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from services.lead.machine.attempt import Attempt, AttemptKind
from services.lead.machine.state import Hold, RunCore, RunFacts
from services.lead.machine.task import Task, TaskState, WaitingFor


class Run:
    """The aggregate. Only `fold` changes it; `copy` gives a draft to decide on.

    Beside what is stored it keeps what would be slow to look up among 10,000 tasks: counts
    by state and of what completed UNVERIFIED, unmet dependencies, dependents, the ready tasks in order,
    the open attempts. All of these follow from the stored part.

    A draft's `touched_tasks` and `touched_attempts` name what differs from the run that it was copied from.
    """

    def __init__(
        self, facts: RunFacts, core: RunCore, tasks: Iterable[Task], attempts: Iterable[Attempt] = ()
    ) -> None:
        self.facts = facts
        self.core = core
        self.attempts = {attempt.id: attempt for attempt in attempts}
        self._asked = {attempt.id: None for attempt in self.attempts.values() if attempt.asked_until}
        self._open = {attempt.id: None for attempt in self.attempts.values() if attempt.open}
        self.touched_attempts: set[str] = set()
        self._lay_out(tasks)

    def _lay_out(self, tasks: Iterable[Task]) -> None:
        self.tasks = {task.id: task for task in tasks}
        self._model_asks = sorted({(task.spec.role, task.spec.model) for task in self.tasks.values()})
        self.dependents: dict[str, list[str]] = {}
        self.unmet: dict[str, int] = {}
        self.counts: Counter[TaskState] = Counter()
        self.unverified = 0
        self._ready: list[tuple[int, int, str]] = []
        self._retrying: dict[str, None] = {}
        self._merging: dict[str, None] = {}
        self.budgeted = self.facts.budget.limited
        self.touched_tasks: set[str] = set()
        for task in self.tasks.values():
            self.unmet[task.id] = sum(
                self.tasks[other].state is not TaskState.COMPLETED for other in task.spec.depends_on
            )
            for other in task.spec.depends_on:
                self.dependents.setdefault(other, []).append(task.id)
        for task in self.tasks.values():
            self.counts[task.state] += 1
            self.unverified += _completed_unverified(task)
            self.budgeted |= task.spec.budget.limited
            self._index(task)

    def adopt(self, tasks: Iterable[Task]) -> None:
        """Take the tasks of a plan that was made of the run's goal."""
        self._lay_out(tasks)

    def copy(self) -> "Run":
        """A draft: equal, and free to be changed. Shares what never changes."""
        draft = object.__new__(Run)
        draft.facts, draft.core, draft.dependents = self.facts, self.core, self.dependents
        draft._model_asks = self._model_asks
        draft.tasks, draft.attempts = dict(self.tasks), dict(self.attempts)
        draft.unmet, draft.counts = dict(self.unmet), self.counts.copy()
        draft.unverified = self.unverified
        draft._ready, draft._retrying = list(self._ready), dict(self._retrying)
        draft._merging, draft._open = dict(self._merging), dict(self._open)
        draft._asked, draft.budgeted = dict(self._asked), self.budgeted
        draft.touched_tasks, draft.touched_attempts = set(), set()
        return draft

    def put_task(self, task: Task) -> None:
        """Replace a task, keeping counts and order true."""
        before = self.tasks[task.id]
        self._unindex(before)
        self.tasks[task.id] = task
        self.touched_tasks.add(task.id)
        self.counts[before.state] -= 1
        self.counts[task.state] += 1
        self.unverified += _completed_unverified(task) - _completed_unverified(before)
        if task.state is TaskState.COMPLETED and before.state is not TaskState.COMPLETED:
            for dependent in self.dependents.get(task.id, ()):
                self._unindex(self.tasks[dependent])
                self.unmet[dependent] -= 1
                self._index(self.tasks[dependent])
        self._index(task)

    def put_attempt(self, attempt: Attempt) -> None:
        """Add or replace an attempt."""
        self.attempts[attempt.id] = attempt
        self.touched_attempts.add(attempt.id)
        if attempt.open:
            self._open[attempt.id] = None
        else:
            self._open.pop(attempt.id, None)
        if attempt.asked_until:
            self._asked[attempt.id] = None
        else:
            self._asked.pop(attempt.id, None)

    def update(self, **changes: object) -> None:
        """Replace fields of the core."""
        self.core = replace(self.core, **changes)  # type: ignore[arg-type]

    @property
    def ready(self) -> list[Task]:
        """PENDING tasks whose dependencies completed and whose retry time has come, in order."""
        return [self.tasks[task_id] for *_, task_id in self._ready]

    @property
    def retrying(self) -> list[Task]:
        """PENDING tasks that wait for an instant."""
        return [self.tasks[task_id] for task_id in self._retrying]

    @property
    def merging(self) -> list[Task]:
        """Tasks in the merge queue, in task order."""
        return sorted((self.tasks[task_id] for task_id in self._merging), key=lambda task: task.order)

    @property
    def open_attempts(self) -> list[Attempt]:
        """Attempts that have not ended, oldest first."""
        return [self.attempts[attempt_id] for attempt_id in self._open]

    @property
    def asked_attempts(self) -> list[Attempt]:
        """Lost attempts whose worker is still asked for their result."""
        return [self.attempts[attempt_id] for attempt_id in self._asked]

    @property
    def model_asks(self) -> list[tuple[str, str]]:
        """What tasks ask: their roles and models, each pair once, in order."""
        return self._model_asks

    def hold_on(self, task: Task) -> Hold | None:
        """What a task's provider asks, where it asks to wait."""
        asked = (task.spec.role, task.spec.model)
        return next((hold for hold in self.core.holds if (hold.role, hold.model) == asked), None)

    def open_verification(self, check: int, commit: str) -> Attempt | None:
        """The open attempt that runs a check on a commit, where there is one."""
        for attempt in self.open_attempts:
            if attempt.kind is AttemptKind.VERIFY and (attempt.check, attempt.commit) == (check, commit):
                return attempt
        return None

    def is_green(self, tree: str, check: int) -> bool:
        """Whether a tree passed a check before: it is not run again."""
        return any((green.tree, green.check) == (tree, check) for green in self.core.green)

    @property
    def all_final(self) -> bool:
        """Whether every task has ended."""
        return sum(self.counts[state] for state in TaskState if state.final) == len(self.tasks)

    def _index(self, task: Task) -> None:
        if task.merging:
            self._merging[task.id] = None
        elif task.state is TaskState.PENDING and not self.unmet[task.id]:
            if task.waiting_for is WaitingFor.RETRY_TIME:
                self._retrying[task.id] = None
            else:
                bisect.insort(self._ready, (*task.order, task.id))

    def _unindex(self, task: Task) -> None:
        self._merging.pop(task.id, None)
        self._retrying.pop(task.id, None)
        entry = (*task.order, task.id)
        place = bisect.bisect_left(self._ready, entry)
        if place < len(self._ready) and self._ready[place] == entry:
            del self._ready[place]


def _completed_unverified(task: Task) -> bool:
    return task.state is TaskState.COMPLETED and task.spec.unverified
