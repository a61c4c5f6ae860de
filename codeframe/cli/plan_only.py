"""A goal's plan, written to a file instead of being done."""

from contextlib import suppress
from pathlib import Path

from google.protobuf import json_format

from codeframe.cli.command import console
from codeframe.cli.failure import NOT_COMPLETED, CommandFailed
from codeframe.cli.screen import Screen
from codeframe.cli.view import RunView
from codeframe.client import Client, CodeframeError, WatchItem
from codeframe.planfile import SCHEMA_LINE, plan_text
from codeframe.v1 import evidence_pb2, lead_pb2, plan_pb2, state_pb2, status_pb2

ARTIFACT = "plan"


async def write_plan(client: Client, run: lead_pb2.Run, file: Path) -> int:
    """Follow a run until its plan is made, write that, and have the run end; the exit code.

    Left before, the run is cancelled, too. Raises CodeframeError, CommandFailed.
    """
    view, written = RunView(run), False
    try:
        with Screen(view, console) as screen:
            async with client.watch(run_ids=[run.run_id]) as watch:
                async for item in watch:
                    screen.changed(view.apply(item))
                    if not written and _may_have_a_plan(item):
                        written = await _write(client, run.run_id, file)
                        if written:
                            await client.cancel_run(run.run_id, "only its plan was wanted")
    finally:
        if not written:
            with suppress(CodeframeError):  # it has ended by itself, or its lead is away
                await client.cancel_run(run.run_id, "left before its plan was made")
    if not written:
        console.print(f"no plan was made: {view.run.failure.message}", soft_wrap=True, markup=False)
        return NOT_COMPLETED
    do_it = f"codeframe run {file} --repo {run.repository}"
    console.print(f"wrote {file}; do it with: {do_it}", soft_wrap=True, markup=False)
    return 0


def _may_have_a_plan(item: WatchItem) -> bool:
    """Whether the plan may be there now: it was told, or was there before the watch began."""
    if isinstance(item, status_pb2.Bookmark):
        return item.snapshot_end
    return isinstance(item, status_pb2.JournaledEvent) and item.event.HasField("plan_proposed")


async def _write(client: Client, run_id: str, file: Path) -> bool:
    """Write the plan of the attempt that made one; whether there is one."""
    async for attempt in client.attempts(run_id):
        is_plan = attempt.kind == state_pb2.ATTEMPT_KIND_PLAN
        if is_plan and attempt.outcome == evidence_pb2.OUTCOME_SUCCEEDED:
            data = b"".join([chunk async for chunk in client.read_artifact(attempt.attempt_id, ARTIFACT)])
            plan = json_format.Parse(data, plan_pb2.Plan(), ignore_unknown_fields=True)
            try:
                with file.open("x", encoding="utf-8") as out:
                    out.write(SCHEMA_LINE + plan_text(plan))
            except OSError as error:
                raise CommandFailed(f"{file}: {error.strerror}") from None
            return True
    return False
