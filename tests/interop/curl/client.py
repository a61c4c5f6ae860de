"""A client of codeframe.v1 that knows no proto of it: `buf curl`, which asks the server by reflection.

    python tests/interop/curl/client.py HOST:PORT REPOSITORY REQUEST_ID

Says what it meets as lines of JSON, as tests/interop/README.md tells them.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.rpc import error_details_pb2

BUF = Path(sysconfig.get_path("scripts"), "buf")


class Refused(Exception):
    """A call failed; `error` is what buf prints of it."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.code = str(error.get("code", "")).upper()
        self.reason = ""
        self.fields: list[str] = []
        for detail in error.get("details", ()):
            value = base64.b64decode(detail["value"] + "==")
            if detail["type"] == "google.rpc.ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(value)
                self.reason = info.reason if info.domain == "codeframe" else ""
            elif detail["type"] == "google.rpc.BadRequest":
                violations = error_details_pb2.BadRequest.FromString(value).field_violations
                self.fields = [violation.field for violation in violations]


def call(address: str, method: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The responses of a call, as they come. Raises Refused."""
    arguments = ("curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", json.dumps(request))
    process = subprocess.Popen(
        (BUF, *arguments, f"http://{address}/codeframe.v1.{method}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        text = ""
        for line in process.stdout:
            text += line
            try:
                response = json.loads(text)
            except ValueError:
                continue
            text = ""
            yield _with_proto_names(response)
        complaint = process.stderr.read()
    if process.returncode:
        try:
            raise Refused(json.loads(complaint))
        except ValueError:
            # Not a status: it could not so much as ask.
            raise Refused({"code": "unavailable", "message": complaint}) from None


def _with_proto_names(value: Any) -> Any:
    """buf writes `runId` for run_id; nothing that is read here has a map, whose keys are not names."""
    match value:
        case dict():
            return {
                re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", key): _with_proto_names(inner)
                for key, inner in value.items()
            }
        case list():
            return [_with_proto_names(inner) for inner in value]
    return value


def say(**line: object) -> None:
    """A line of JSON."""
    print(json.dumps(line), flush=True)


def refused(address: str, method: str, request: dict[str, Any]) -> None:
    """Say how a call is refused."""
    try:
        list(call(address, method, request))
    except Refused as error:
        say(error={"code": error.code, "reason": error.reason, "fields": error.fields})


def follow(address: str, run_id: str) -> None:
    """Say a run's events, from the first to the last, across connections that drop."""
    cursor, fresh = "", False
    for _ in range(200):
        request = {"run_ids": [run_id], "cursor": cursor}
        try:
            for response in call(address, "StatusService/WatchEvents", request):
                for event in response.get("events", ()):
                    say(event=event)
                    cursor, fresh = event["cursor"], True
                cursor = response.get("bookmark", {}).get("cursor", cursor)
            return
        except Refused as error:
            if error.reason not in ("", "ERROR_REASON_UNAVAILABLE"):
                raise
        if fresh:
            say(dropped={"cursor": cursor})
            fresh = False
        time.sleep(0.1)
    raise SystemExit("the lead stays away")


def fetch_diff(address: str, run_id: str) -> None:
    """Read the diff of the first attempt of task a, and hold it against its digest."""
    (page,) = call(address, "LeadService/ListAttempts", {"run_id": run_id, "task_id": "a"})
    attempt_id = page["attempts"][0]["attempt_id"]
    (listed,) = call(address, "LeadService/ListArtifacts", {"attempt_id": attempt_id})
    diff = next(each for each in listed["artifacts"] if each["name"] == "diff")
    parts = call(address, "LeadService/ReadArtifact", {"attempt_id": attempt_id, "name": "diff"})
    data = b"".join(base64.b64decode(part["data"]) for part in parts)
    digest = hashlib.sha256(data).hexdigest()
    if (digest, str(len(data))) != (diff["sha256"], diff["size"]):
        raise SystemExit("the artifact is not the one that is listed")
    say(artifact={"attempt_id": attempt_id, "name": "diff", "size": len(data), "sha256": digest})


def task(task_id: str, *depends_on: str) -> dict[str, Any]:
    return {"id": task_id, "title": f"Do {task_id}", "role": "backend", "depends_on": depends_on}


def main(address: str, repository: str, request_id: str) -> bool:
    """Whether the plan completed."""
    request = {"request_id": request_id, "repository": repository}
    wrong = {"title": "A plan", "tasks": [task("a", "nothing"), task("b", "b")]}
    plan = {"title": "A plan", "tasks": [task("a"), task("b", "a"), task("c", "b")]}
    refused(address, "LeadService/GetRun", {"run_id": "no-such-run"})
    refused(address, "LeadService/CreateRun", request | {"plan": wrong})
    (created,) = call(address, "LeadService/CreateRun", request | {"plan": plan})
    run_id = created["run"]["run_id"]
    say(created={"run_id": run_id, "request_id": created["run"]["request_id"]})
    follow(address, run_id)
    (got,) = call(address, "LeadService/GetRun", {"run_id": run_id})
    run = got["run"]
    say(
        ended={
            "state": run["state"],
            "completed": run["counts"]["completed"],
            "head_commit": run["head_commit"],
        }
    )
    fetch_diff(address, run_id)
    return bool(run["state"] == "RUN_STATE_COMPLETED")


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
