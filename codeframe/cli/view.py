"""What a follower of one run knows of it: folded from a watch's rows and events."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from codeframe.cli.names import RED_AT_BASE, first_line, outcome, run_state, spoken, task_state
from codeframe.client import SnapshotStarted, WatchItem
from codeframe.v1 import events_pb2, evidence_pb2, lead_pb2, state_pb2, status_pb2

UNCONFINED = "SANDBOX NONE: commands of the project are not confined"

_GOES_ON = (state_pb2.RUN_STATE_PLANNING, state_pb2.RUN_STATE_RUNNING)


@dataclass(slots=True)
class TaskView:
    """One task, and the last line that was told of it."""

    task: lead_pb2.Task
    doing: str = ""

    @property
    def stage(self) -> str:
        """Where it stands within its state, in a few words."""
        task = self.task
        match task.state:
            case state_pb2.TASK_STATE_PENDING:
                waiting = spoken(state_pb2.WaitingFor, task.waiting_for)
                if task.waiting_for == state_pb2.WAITING_FOR_DEPENDENCIES:
                    waiting = ", ".join(task.depends_on)
                if task.waiting_for == state_pb2.WAITING_FOR_PROVIDER and task.HasField("retry_time"):
                    waiting += f" until {_clock(task.retry_time)}"
                why = f" after {outcome(task.reason)}" if task.reason else ""
                return f"waits for {waiting}{why}" if task.waiting_for else why.strip()
            case state_pb2.TASK_STATE_IN_PROGRESS:
                return spoken(state_pb2.TaskPhase, task.phase)
            case state_pb2.TASK_STATE_COMPLETED:
                return f"{task.commit[:10]} UNVERIFIED".strip() if task.unverified else task.commit[:10]
            case state_pb2.TASK_STATE_FAILED:
                return ": ".join(part for part in (outcome(task.reason), first_line(task.message)) if part)
            case _:
                return first_line(task.message)

    @property
    def what(self) -> str:
        """The same, with what the agent does."""
        doing = first_line(self.doing) if self.task.state == state_pb2.TASK_STATE_IN_PROGRESS else ""
        return f"{self.stage}: {doing}" if doing else self.stage


@dataclass(slots=True)
class RunView:
    """One run. `apply` returns a line for what is worth one."""

    run: lead_pb2.Run = field(default_factory=lead_pb2.Run)
    tasks: dict[str, TaskView] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    unconfined: bool = False
    planner: str = ""
    planning: str = ""
    """What the attempt that makes a plan does, while it does."""
    throttled: dict[str, events_pb2.ProviderThrottled] = field(default_factory=dict)
    """What was told last of providers that asked to wait, by model family."""

    def apply(self, item: WatchItem) -> str:
        """Fold one item in; the line that it is worth, or nothing."""
        match item:
            case SnapshotStarted():
                self.tasks.clear()
            case lead_pb2.Run():
                return self._take_run(item)
            case lead_pb2.Task():
                self.tasks[item.task_id] = TaskView(item)
            case lead_pb2.Worker():
                return self._take_worker(item)
            case status_pb2.Bookmark(snapshot_end=True):
                return self.summary()
            case status_pb2.JournaledEvent():
                return self._event(item)
            case _:
                pass
        return ""

    def summary(self) -> str:
        """The run in a line: its state, its tasks by state, its tokens."""
        counts = Counter(task_state(each.task.state) for each in self.tasks.values())
        told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no tasks yet"
        tokens = f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        return f"{self.run.title}: run {self.run.run_id} {run_state(self.run.state)}: {told}; {tokens}"

    def unserved_roles(self) -> list[str]:
        """Roles that no worker serves, and that the run or a task waits for."""
        waiting = state_pb2.WAITING_FOR_WORKER
        waited_for = {each.task.role for each in self.tasks.values() if each.task.waiting_for == waiting}
        return sorted(waited_for.union(self.run.unserved_roles))

    def paused(self, now: datetime) -> list[str]:
        """The providers that are waited for, or were given up and not tried since: a line each."""
        return [
            _provider(told)
            for told in self.throttled.values()
            if told.unavailable or told.resume_time.ToDatetime(UTC) > now
        ]

    def plan(self, title: str) -> str:
        """The plan that was made of the run's goal: a line for each task, in plan order."""
        lines = [f"the plan: {title}"]
        for each in self.tasks.values():
            task = each.task
            after = f" (after {', '.join(task.depends_on)})" if task.depends_on else ""
            lines.append(f"  {task.task_id} [{task.role}] {task.title}{after}")
        return "\n".join(lines)

    def _take_run(self, run: lead_pb2.Run) -> str:
        self.run = run
        self.tokens_in = sum(_read(usage) for usage in run.usage)
        self.tokens_out = sum(usage.output_tokens for usage in run.usage)
        return _unserved(run) if run.unserved_roles else ""

    def _take_worker(self, worker: lead_pb2.Worker) -> str:
        lines = []
        for pause in worker.provider_pauses:
            told = events_pb2.ProviderThrottled(
                model_family=pause.model_family, resume_time=pause.resume_time, message=pause.message
            )
            if self.throttled.get(pause.model_family) != told:
                lines.append(_provider(told))
            self.throttled[pause.model_family] = told
        if worker.sandbox_mode == "none" and not self.unconfined:
            self.unconfined = True
            lines.append(UNCONFINED)
        return "\n".join(lines)

    def _take_throttled(self, event: events_pb2.Event) -> str:
        told = event.provider_throttled
        if told.resume_time.ToDatetime() <= event.event_time.ToDatetime():
            self.throttled.pop(told.model_family, None)
            return f"{told.model_family}: the provider serves again"
        self.throttled[told.model_family] = told
        return _provider(told)

    def _event(self, journaled: status_pb2.JournaledEvent) -> str:
        event = journaled.event
        match event.WhichOneof("payload"):
            case "run_status_changed":
                return self._run_changed(journaled)
            case "task_status_changed":
                return self._task_changed(journaled)
            case "usage_recorded" if journaled.revision > self.run.revision:
                self.tokens_in += _read(event.usage_recorded.usage)
                self.tokens_out += event.usage_recorded.usage.output_tokens
            case "attempt_started" if event.attempt_started.kind == state_pb2.ATTEMPT_KIND_PLAN:
                self.planner, self.planning = event.attempt_id, "starts"
                return f"planning: attempt {event.attempt_started.number}"
            case "activity_update" if self.planner and event.attempt_id == self.planner:
                self.planning = first_line(event.activity_update.message)
                return f"planning: {self.planning}"
            case "attempt_ended" if event.attempt_id == self.planner:
                self.planner = self.planning = ""
                return _attempt(event.attempt_ended)
            case "activity_update":
                if known := self.tasks.get(event.activity_update.task_id):
                    known.doing = event.activity_update.message
            case "test_result" if event.test_result.task_id:
                return _tests(event.test_result)
            case "correction_attempt":
                return _correction(event.correction_attempt)
            case "attempt_ended" if event.attempt_ended.outcome != evidence_pb2.OUTCOME_SUCCEEDED:
                return _attempt(event.attempt_ended)
            case "commit_created":
                return self._commit(event.commit_created)
            case "provider_throttled":
                return self._take_throttled(event)
            case _:
                pass
        return ""

    def _run_changed(self, journaled: status_pb2.JournaledEvent) -> str:
        changed = journaled.event.run_status_changed
        if journaled.revision <= self.run.revision:
            return ""
        before = self.run.state
        self.run.state, self.run.revision = changed.status, journaled.revision
        if changed.head_commit:
            self.run.head_commit = changed.head_commit
        if changed.HasField("failure"):
            self.run.failure.CopyFrom(changed.failure)
        lines = [f"run: {run_state(changed.status)}"] if changed.status != before else []
        if _unserved(self.run) != _unserved(changed):
            self.run.ClearField("unserved_roles")
            self.run.unserved_roles.extend(changed.unserved_roles)
            self.run.unserved_reason = changed.unserved_reason
            if changed.unserved_roles or changed.status in _GOES_ON:  # a run that ends waits for no role
                lines += [_unserved(changed)]
        return "\n".join(lines)

    def _task_changed(self, journaled: status_pb2.JournaledEvent) -> str:
        changed = journaled.event.task_status_changed
        known = self.tasks.get(changed.task_id)
        if known is None or journaled.revision <= known.task.revision:
            return ""
        task, before = known.task, (known.task.state, known.stage)
        task.state, task.phase, task.waiting_for = changed.status, changed.phase, changed.waiting_for
        task.reason, task.message, task.progress = changed.reason, changed.message, changed.progress
        task.agent_id, task.revision = changed.agent_id, journaled.revision
        task.ClearField("retry_time")
        if changed.HasField("retry_time"):
            task.retry_time.CopyFrom(changed.retry_time)
        if before == (task.state, known.stage):
            return ""
        known.doing = ""
        return f"{task.task_id}: {', '.join(part for part in (task_state(task.state), known.stage) if part)}"

    def _commit(self, made: events_pb2.CommitCreated) -> str:
        if known := self.tasks.get(made.task_id):
            known.task.commit = made.commit_hash
        return f"{made.task_id}: commit {made.commit_hash[:10]} {made.message}"


def _unserved(told: lead_pb2.Run | events_pb2.RunStatusChanged) -> str:
    if not told.unserved_roles:
        return "every role is served"
    return unserved(told.unserved_roles, told.unserved_reason)


def unserved(roles: Iterable[str], reason: str) -> str:
    """Which roles no worker serves, and why, where a worker says."""
    return f"no worker serves: {', '.join(roles)}" + (f" ({reason})" if reason else "")


def _provider(told: events_pb2.ProviderThrottled) -> str:
    at, why = _clock(told.resume_time), f": {told.message}" if told.message else ""
    if told.unavailable:
        return f"{told.model_family}: the provider was given up; one attempt asks it again at {at}{why}"
    return f"{told.model_family}: waits for the provider until {at}{why}"


def _clock(instant: Timestamp) -> str:
    return f"{instant.ToDatetime():%H:%M:%S} UTC"


def _read(usage: evidence_pb2.ModelUsage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _tests(result: events_pb2.TestResult) -> str:
    before = RED_AT_BASE if result.green and result.failed + result.errors else ""
    counts = f"{result.passed} passed, {result.failed} failed, {result.errors} errors{before}"
    verdict = "green" if result.green else "red"
    return f"{result.task_id}: verification {verdict}: {counts}, {result.skipped} skipped"


def _correction(made: events_pb2.CorrectionAttempt) -> str:
    state = spoken(events_pb2.CorrectionStatus, made.status)
    return f"{made.task_id or 'planning'}: correction {made.attempt_number} of {made.max_attempts} {state}"


def _attempt(ended: events_pb2.AttemptEnded) -> str:
    planned = ended.kind == state_pb2.ATTEMPT_KIND_PLAN
    whose = ended.task_id or ("planning" if planned else "verification")
    return f"{whose}: attempt {ended.number} {outcome(ended.outcome)} {first_line(ended.message)}".rstrip()
