"""What a run came to, as `show` and the end of `run` print it."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codeframe.cli.view import outcome, run_state, task_state
from codeframe.client import Client
from codeframe.v1 import evidence_pb2, lead_pb2, state_pb2

ANTHROPIC = "https://api.anthropic.com"


async def report(client: Client, run_id: str, console: Console, *, artifacts: bool = False) -> lead_pb2.Run:
    """Print a run: its state, branch, tasks with their evidence, and what it took."""
    run = await client.get_run(run_id)
    tasks = [task async for task in client.tasks(run_id)]
    attempts = [attempt async for attempt in client.attempts(run_id)]
    _heading(run, console)
    by_task: dict[str, list[lead_pb2.Attempt]] = {}
    for attempt in attempts:
        by_task.setdefault(attempt.task_id, []).append(attempt)
    console.print(_tasks(tasks, by_task))
    for warning in _warnings(attempts):
        console.print(Text(warning, style="bold yellow"))
    _usage(run, console)
    if artifacts:
        for attempt in attempts:
            for artifact in attempt.result.artifacts:
                cut = ", truncated" if artifact.truncated else ""
                console.print(f"  {attempt.attempt_id}  {artifact.name}  {artifact.size} bytes{cut}")
    return run


def _heading(run: lead_pb2.Run, console: Console) -> None:
    console.print(Text(f"run {run.run_id}: {run_state(run.state)}", style="bold"))
    if run.failure.message:
        reason = state_pb2.RunFailureReason.Name(run.failure.reason).removeprefix("RUN_FAILURE_REASON_")
        console.print(Text(f"  {reason}: {run.failure.message}", style="red"), soft_wrap=True)
    console.print(Text(f"  repository {run.repository}"), soft_wrap=True)
    console.print(Text(f"  base       {run.base_commit}"))
    console.print(Text(f"  branch     {run.branch} at {run.head_commit}"))
    if run.unserved_roles:
        console.print(Text(f"  no worker serves: {', '.join(run.unserved_roles)}", style="yellow"))
    if run.head_commit != run.base_commit:
        console.print(Text(f"  look at it: git diff {run.base_commit[:10]}..{run.branch}"), soft_wrap=True)


def _tasks(tasks: Sequence[lead_pb2.Task], by_task: dict[str, list[lead_pb2.Attempt]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    for column in ("task", "role", "state", "attempts", "commit", "evidence"):
        table.add_column(column, no_wrap=column != "evidence")
    for task in tasks:
        last = by_task.get(task.task_id, [])[-1:]
        evidence = _evidence(last[0].result) if last else ""
        if task.state == state_pb2.TASK_STATE_FAILED:
            first = task.message.splitlines()[0] if task.message else ""
            evidence = f"{outcome(task.reason)}: {first}"
        attempts = str(task.attempts)
        table.add_row(
            task.task_id, task.role, task_state(task.state), attempts, task.commit[:10], Text(evidence)
        )
    return table


def _evidence(result: evidence_pb2.TaskResult) -> str:
    """The verification that judged an attempt's commit, in a line."""
    if not result.verifications:
        return ""
    last = result.verifications[-1]
    verdict = "green" if last.green else "red"
    counts = f"{last.passed} passed, {last.failed + last.errors} failed, {last.skipped} skipped"
    corrected = f", {result.corrections} corrections" if result.corrections else ""
    return f"{verdict}: {counts} ({last.command}){corrected}; {len(result.files)} files; sandbox {last.sandbox_mode}"


def _warnings(attempts: Sequence[lead_pb2.Attempt]) -> list[str]:
    results = [attempt.result for attempt in attempts if attempt.HasField("result")]
    warnings: list[str] = []
    if any(result.sandbox_mode == "none" for result in results):
        warnings.append("SANDBOX NONE: commands of the project ran unconfined, as the operator asked")
    endpoints = {result.model_endpoint for result in results if result.model_endpoint}
    warnings += [
        f"the model was asked at {endpoint}, not at Anthropic"
        for endpoint in sorted(endpoints)
        if not endpoint.startswith(ANTHROPIC)
    ]
    return warnings


def _usage(run: lead_pb2.Run, console: Console) -> None:
    for usage in run.usage:
        console.print(
            Text(
                f"  {usage.model}: {usage.turns} turns, {usage.input_tokens:,} tokens in, "
                f"{usage.cache_read_tokens:,} from cache, {usage.cache_write_tokens:,} to cache, "
                f"{usage.output_tokens:,} out{' (incomplete)' if usage.incomplete else ''}"
            ),
            soft_wrap=True,
        )
