"""What a run came to, as `show` and the end of `run` print it."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codeframe.cli.account import account, cost, spent
from codeframe.cli.key import is_anthropic
from codeframe.cli.names import RED_AT_BASE, first_line, outcome, run_state, spoken, task_state
from codeframe.cli.view import unserved
from codeframe.client import Client
from codeframe.v1 import evidence_pb2, lead_pb2, state_pb2

UNVERIFIED = "UNVERIFIED: the plan says verification: none"


async def report(client: Client, run_id: str, console: Console, *, attempts: bool = False) -> lead_pb2.Run:
    """Print a run: its state, branch, tasks with their evidence, and what it took; each attempt if asked."""
    run = await client.get_run(run_id)
    tasks = [task async for task in client.tasks(run_id)]
    made = [attempt async for attempt in client.attempts(run_id)]
    by_task = defaultdict[str, list[lead_pb2.Attempt]](list)
    for attempt in made:
        by_task[attempt.task_id].append(attempt)
    for line in _heading(run):
        console.print(line, soft_wrap=True)
    console.print(_tasks(tasks, by_task))
    if attempts:
        for attempt in made:
            for line in _attempt(attempt):
                console.print(line, soft_wrap=True)
    for warning in _warnings(run, made):
        console.print(Text(warning, style="bold yellow"), soft_wrap=True)
    for line in spent(run):
        console.print(line, soft_wrap=True)
    took = account(made, run.usage) if attempts else _totals(run)
    for line in took:
        console.print(line, soft_wrap=True)
    for hint in _how_to_look(run):
        console.print(Text(hint), soft_wrap=True)
    return run


def _heading(run: lead_pb2.Run) -> Iterator[Text]:
    yield Text(f"run {run.run_id} {run_state(run.state)}: {run.title}", style="bold")
    if run.failure.reason:
        reason = spoken(state_pb2.RunFailureReason, run.failure.reason)
        yield Text(f"  {reason}: {run.failure.message}", style="red")
    yield Text(f"  repository {run.repository}")
    yield Text(f"  base       {run.base_commit}")
    yield Text(f"  branch     {run.branch} at {run.head_commit}")
    if run.unserved_roles:
        yield Text(f"  {unserved(run.unserved_roles, run.unserved_reason)}", style="yellow")


def _tasks(tasks: Sequence[lead_pb2.Task], by_task: Mapping[str, Sequence[lead_pb2.Attempt]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for column in ("task", "role", "state", "attempts", "commit", "evidence"):
        table.add_column(column, no_wrap=column != "evidence")
    for task in tasks:
        made = by_task.get(task.task_id, ())
        evidence = _evidence(made[-1].result) if made else ""
        if task.state != state_pb2.TASK_STATE_COMPLETED:
            why = outcome(task.reason) if task.reason else ""
            evidence = ": ".join(part for part in (why, first_line(task.message)) if part)
        state = task_state(task.state)
        if task.unverified and task.state == state_pb2.TASK_STATE_COMPLETED:
            state += " UNVERIFIED"
        table.add_row(task.task_id, task.role, state, str(task.attempts), task.commit[:10], Text(evidence))
    return table


def _evidence(result: evidence_pb2.TaskResult) -> str:
    """The verification that judged an attempt's commit, in a line."""
    if not result.verifications and not result.unverified:
        return ""
    verdict = UNVERIFIED
    if not result.unverified:
        last = result.verifications[-1]
        verdict = f"{_counts(last)} by {last.command}"
    parts = [verdict, _plural(result.file_count, "file")]
    if result.mutation_check.failed_test:
        parts.append("a wrong change is noticed")
    if result.corrections:
        parts.append(_plural(result.corrections, "correction"))
    return "; ".join([*parts, f"sandbox {result.sandbox_mode}"])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _counts(run: evidence_pb2.Verification) -> str:
    verdict, failed = "green" if run.green else "red", run.failed + run.errors
    before = RED_AT_BASE if run.green and failed else ""
    return f"{verdict}: {run.passed} passed, {failed} failed{before}, {run.skipped} skipped"


def _mutants(check: evidence_pb2.MutationCheck) -> str:
    """Whether new tests noticed a small wrong change of the code under test, in a line."""
    if check.not_done:
        return f"no wrong change was tried: {check.not_done}"
    tried = f"{_plural(len(check.tried), 'wrong change')} of the code under test"
    if not check.failed_test:
        return f"no new test noticed any of {tried}"
    last = check.tried[-1]
    change = f"{last.path}:{last.line}: {last.before} became {last.after}"
    return f"{check.failed_test} noticed the last of {tried}: {change}"


def _attempt(attempt: lead_pb2.Attempt) -> Iterator[Text]:
    """An attempt with its evidence, a line each."""
    result = attempt.result
    ended = outcome(attempt.outcome) if attempt.outcome else "in flight"
    why = f": {first_line(attempt.message)}" if attempt.message else ""
    yield Text(f"\n{attempt.attempt_id}  {ended}{why}", style="bold")
    confined = f", sandbox {result.sandbox_mode}" if result.sandbox_mode else ""
    asked = f", model at {result.model_endpoint}" if result.model_endpoint else ""
    yield Text(f"  {attempt.agent_id} at {attempt.worker}{confined}{asked}")
    if result.commit:
        yield Text(f"  commit {result.commit} {result.commit_subject}")
    if result.unverified:
        yield Text(f"  {UNVERIFIED}", style="yellow")
    for run in result.verifications:
        yield Text(f"  {_counts(run)} by {run.command} of {run.commit[:10]}")
        if run.summary:
            yield Text(f"    {first_line(run.summary)}")
    if result.HasField("mutation_check"):
        yield Text(f"  {_mutants(result.mutation_check)}")
    for artifact in result.artifacts:
        cut = ", truncated" if artifact.truncated else ""
        yield Text(f"  artifact {artifact.name}: {artifact.size:,} bytes{cut}")


def _warnings(run: lead_pb2.Run, attempts: Sequence[lead_pb2.Attempt]) -> Iterator[str]:
    results = [attempt.result for attempt in attempts]
    if run.counts.unverified:
        completed = _plural(run.counts.unverified, "completed task")
        yield f"UNVERIFIED: nothing verified {completed}, as the plan says"
    if any(result.sandbox_mode == "none" for result in results):
        yield "SANDBOX NONE: commands of the project ran unconfined, as the operator asked"
    if any(usage.scripted for result in results for usage in result.usage):
        yield "SCRIPTED: replies came from a scripted stand-in, not from a model"
    for endpoint in sorted({result.model_endpoint for result in results}):
        if not is_anthropic(endpoint):
            yield f"the model was asked at {endpoint}, not at Anthropic"


def _totals(run: lead_pb2.Run) -> Iterator[Text]:
    return (Text(f"  {usage.model}: {_tokens(usage)}") for usage in run.usage)


def _tokens(usage: evidence_pb2.ModelUsage) -> str:
    return (
        f"{usage.turns} turns, {usage.input_tokens:,} tokens in, {usage.cache_read_tokens:,} from cache, "
        f"{usage.cache_write_tokens:,} to cache, {usage.output_tokens:,} out, {cost(usage)}"
        f"{' (more may be billed)' if usage.incomplete else ''}"
        f"{'; SCRIPTED, no model' if usage.scripted else ''}"
    )


def _how_to_look(run: lead_pb2.Run) -> Iterator[str]:
    if run.head_commit in ("", run.base_commit):
        return
    at, commits = "", f"{run.base_commit[:10]}..{run.branch}"
    yield "look at it:"
    local = Path(run.repository.removeprefix("file://"))
    if local.is_dir():
        at = f" -C {shlex.quote(str(local))}"
    else:
        yield f"  git fetch {shlex.quote(run.repository)} {run.branch}"
        commits = f"{run.base_commit[:10]}..FETCH_HEAD"
    yield f"  git{at} log --oneline {commits}"
    yield f"  git{at} diff {commits}"
