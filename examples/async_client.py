"""Runs a plan with `codeframe.client`: python examples/async_client.py HOST:PORT REPOSITORY [REQUEST_ID]

Says what it meets as lines of JSON: what was refused, the run, its events (across connections that drop),
its end, and an artifact that the run made. A request_id that is kept, say in a file, makes the same run of
a program that was killed and started again. The plan is a stand-in: put your own tasks there.
"""

import asyncio
import hashlib
import json
import sys
import uuid
from collections.abc import Awaitable

from google.protobuf.json_format import MessageToDict

from codeframe.client import Client, CodeframeError, WatchBroken
from codeframe.v1 import plan_pb2, state_pb2, status_pb2

PLAN = plan_pb2.Plan(
    title="A plan",
    tasks=[
        plan_pb2.PlannedTask(id="a", title="Do a", role="backend"),
        plan_pb2.PlannedTask(id="b", title="Do b", role="backend", depends_on=["a"]),
        plan_pb2.PlannedTask(id="c", title="Do c", role="backend", depends_on=["b"]),
    ],
)
WRONG_PLAN = plan_pb2.Plan(
    title="A plan",
    tasks=[
        plan_pb2.PlannedTask(id="a", title="Do a", role="backend", depends_on=["nothing"]),
        plan_pb2.PlannedTask(id="b", title="Do b", role="backend", depends_on=["b"]),
    ],
)


def say(**line: object) -> None:
    """A line of JSON."""
    print(json.dumps(line), flush=True)


async def refused(call: Awaitable[object]) -> None:
    """Say why a call is refused: a reason to decide by, and the fields to mend."""
    try:
        await call
    except CodeframeError as error:
        fields = [violation.field for violation in error.violations]
        say(error={"code": error.code.name, "reason": error.reason, "fields": fields})


async def follow(client: Client, run_id: str) -> None:
    """Say a run's events, from the first to the last; the watch resumes by itself."""
    cursor = ""
    async with client.watch(run_ids=[run_id], cursor=cursor) as watch:
        async for item in watch:
            match item:
                case status_pb2.JournaledEvent():
                    say(event=MessageToDict(item, preserving_proto_field_name=True))
                    cursor = item.cursor
                case status_pb2.Bookmark():
                    cursor = item.cursor
                case WatchBroken(failures=1):
                    say(dropped={"cursor": cursor})


async def fetch_diff(client: Client, run_id: str) -> None:
    """Read the diff of the first attempt of task a, and hold it against its digest."""
    attempt = await anext(client.attempts(run_id, "a"))
    artifacts = {each.name: each for each in await client.list_artifacts(attempt.attempt_id)}
    digest, size = hashlib.sha256(), 0
    async for chunk in client.read_artifact(attempt.attempt_id, "diff"):
        digest.update(chunk)
        size += len(chunk)
    if digest.hexdigest() != artifacts["diff"].sha256:
        raise SystemExit("the diff is not the one that is listed")
    say(
        artifact={
            "attempt_id": attempt.attempt_id,
            "name": "diff",
            "size": size,
            "sha256": digest.hexdigest(),
        }
    )


async def main(address: str, repository: str, request_id: str) -> bool:
    """Whether the plan completed."""
    async with Client(address) as client:
        await refused(client.get_run("no-such-run"))
        await refused(client.create_run(WRONG_PLAN, repository, request_id=request_id))
        run = await client.create_run(PLAN, repository, request_id=request_id)
        say(created={"run_id": run.run_id, "request_id": run.request_id})
        await follow(client, run.run_id)
        ended = await client.get_run(run.run_id)
        say(
            ended={
                "state": state_pb2.RunState.Name(ended.state),
                "completed": ended.counts.completed,
                "head_commit": ended.head_commit,
            }
        )
        if ended.state != state_pb2.RUN_STATE_COMPLETED:
            return False
        await fetch_diff(client, run.run_id)
        return True


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    kept = sys.argv[3] if len(sys.argv) == 4 else uuid.uuid4().hex
    sys.exit(0 if asyncio.run(main(sys.argv[1], sys.argv[2], kept)) else 1)
