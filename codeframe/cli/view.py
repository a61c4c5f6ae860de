"""What a follower of one run knows of it: folded from a watch's rows and events."""

from dataclasses import dataclass, field

from codeframe.v1 import events_pb2, evidence_pb2, lead_pb2, state_pb2, status_pb2


def name(enum_name: str, prefix: str) -> str:
    """An enum value's name as people read it: TASK_STATE_IN_PROGRESS as "in progress"."""
    return enum_name.removeprefix(prefix).lower().replace("_", " ")


def task_state(state: state_pb2.TaskState.ValueType) -> str:
    """A task's state for people."""
    return name(state_pb2.TaskState.Name(state), "TASK_STATE_")


def run_state(state: state_pb2.RunState.ValueType) -> str:
    """A run's state, as the API names it."""
    return state_pb2.RunState.Name(state).removeprefix("RUN_STATE_")


def outcome(value: evidence_pb2.Outcome.ValueType) -> str:
    """An attempt's outcome for people."""
    known = value in evidence_pb2.Outcome.values()
    return name(evidence_pb2.Outcome.Name(value), "OUTCOME_") if known else f"outcome {value}"


@dataclass(slots=True)
class TaskView:
    """One task, and the last line that was told of it."""

    task: lead_pb2.Task
    doing: str = ""

    @property
    def what(self) -> str:
        """What is going on, in a few words."""
        task = self.task
        match task.state:
            case state_pb2.TASK_STATE_PENDING:
                waiting = name(state_pb2.WaitingFor.Name(task.waiting_for), "WAITING_FOR_")
                if task.waiting_for == state_pb2.WAITING_FOR_DEPENDENCIES:
                    waiting = ", ".join(task.depends_on)
                why = f"; {outcome(task.reason)}" if task.reason else ""
                return f"waits for {waiting}{why}"
            case state_pb2.TASK_STATE_IN_PROGRESS:
                phase = name(state_pb2.TaskPhase.Name(task.phase), "TASK_PHASE_")
                return f"{phase}: {self.doing}" if self.doing else phase
            case state_pb2.TASK_STATE_COMPLETED:
                return task.commit[:10]
            case state_pb2.TASK_STATE_FAILED:
                first = task.message.splitlines()[0] if task.message else ""
                return f"{outcome(task.reason)}: {first}" if first else outcome(task.reason)
            case _:
                return task.message.splitlines()[0] if task.message else ""


@dataclass(slots=True)
class RunView:
    """One run. `apply` returns a line for what is worth one."""

    run: lead_pb2.Run = field(default_factory=lead_pb2.Run)
    tasks: dict[str, TaskView] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cursor: str = ""

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self.run.state in (
            state_pb2.RUN_STATE_COMPLETED,
            state_pb2.RUN_STATE_FAILED,
            state_pb2.RUN_STATE_CANCELLED,
        )

    def take_run(self, run: lead_pb2.Run) -> None:
        """A row of a snapshot."""
        self.run = run
        self.tokens_in = sum(_read(usage) for usage in run.usage)
        self.tokens_out = sum(usage.output_tokens for usage in run.usage)

    def take_task(self, task: lead_pb2.Task) -> None:
        """A row of a snapshot."""
        known = self.tasks.get(task.task_id)
        self.tasks[task.task_id] = TaskView(task, known.doing if known else "")

    def apply(self, journaled: status_pb2.JournaledEvent) -> str:
        """Fold one event in; the line that it is worth, or nothing."""
        self.cursor = journaled.cursor
        event = journaled.event
        match event.WhichOneof("payload"):
            case "run_status_changed":
                return self._run(journaled)
            case "task_status_changed":
                return self._task(journaled)
            case "usage_recorded" if journaled.revision > self.run.revision:
                self.tokens_in += _read(event.usage_recorded.usage)
                self.tokens_out += event.usage_recorded.usage.output_tokens
            case "activity_update":
                known = self.tasks.get(event.activity_update.task_id)
                if known:
                    known.doing = event.activity_update.message
            case "test_result" if event.test_result.task_id:
                return _tests(event.test_result)
            case "correction_attempt":
                return _correction(event.correction_attempt)
            case "attempt_ended" if event.attempt_ended.outcome != evidence_pb2.OUTCOME_SUCCEEDED:
                ended = event.attempt_ended
                first = ended.message.splitlines()[0] if ended.message else ""
                whose = ended.task_id or "verification"
                return f"{whose}: attempt {ended.number} {outcome(ended.outcome)} {first}".rstrip()
            case "commit_created":
                made = event.commit_created
                return f"{made.task_id}: commit {made.commit_hash[:10]} {made.message}"
            case _:
                pass
        return ""

    def _run(self, journaled: status_pb2.JournaledEvent) -> str:
        changed = journaled.event.run_status_changed
        if journaled.revision <= self.run.revision:
            return ""
        self.run.state, self.run.revision = changed.status, journaled.revision
        if changed.head_commit:
            self.run.head_commit = changed.head_commit
        if changed.HasField("failure"):
            self.run.failure.CopyFrom(changed.failure)
        return f"run: {run_state(changed.status)}"

    def _task(self, journaled: status_pb2.JournaledEvent) -> str:
        changed = journaled.event.task_status_changed
        known = self.tasks.get(changed.task_id)
        if known is None or journaled.revision <= known.task.revision:
            return ""
        before = known.what.partition(":")[0]
        task = known.task
        moved = task.state != changed.status
        task.state, task.phase, task.waiting_for = changed.status, changed.phase, changed.waiting_for
        task.reason, task.message, task.progress = changed.reason, changed.message, changed.progress
        if changed.HasField("agent_id"):
            task.agent_id = changed.agent_id
        elif changed.status == state_pb2.TASK_STATE_PENDING:
            task.agent_id = ""
        if moved:
            known.doing = ""
        after = known.what.partition(":")[0]
        if not moved and before == after:
            return ""
        return (
            f"{task.task_id}: {task_state(task.state)}, {after}"
            if after
            else f"{task.task_id}: {task_state(task.state)}"
        )


def _read(usage: evidence_pb2.ModelUsage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens


def _tests(result: events_pb2.TestResult) -> str:
    verdict = "green" if result.green else "red"
    counts = (
        f"{result.passed} passed, {result.failed} failed, {result.errors} errors, {result.skipped} skipped"
    )
    return f"{result.task_id}: verification {verdict}: {counts}"


def _correction(correction: events_pb2.CorrectionAttempt) -> str:
    state = name(events_pb2.CorrectionStatus.Name(correction.status), "CORRECTION_STATUS_")
    return (
        f"{correction.task_id}: correction {correction.attempt_number} of {correction.max_attempts} {state}"
    )
