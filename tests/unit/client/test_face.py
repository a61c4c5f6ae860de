"""What the client offers: every RPC of the lead, and what docs/client.md says of it."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import codeframe.client
from codeframe.client import Client, CodeframeError
from codeframe.v1 import events_pb2, lead_pb2, status_pb2
from tests.canned_lead import CannedLead, serve

DOCUMENT = Path(__file__).parents[3] / "docs/client.md"
METHODS = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
RPCS = [
    method.name
    for file, service in ((lead_pb2, "LeadService"), (status_pb2, "StatusService"))
    for method in file.DESCRIPTOR.services_by_name[service].methods
]


def test_every_rpc_has_its_method() -> None:
    for rpc in RPCS:
        name = re.sub("(?<=[a-z])(?=[A-Z])", "_", rpc).lower()
        assert {name, name.removesuffix("_events")} & METHODS, f"Client has no method for {rpc}"


def test_the_document_names_every_method_and_rpc_and_no_other() -> None:
    text = DOCUMENT.read_text()
    calls = text.partition("## Calls")[2].partition("\nEvery call")[0]
    assert set(re.findall(r"`(\w+)`(?=[^|]*\|[^|]*\|$)", calls, re.MULTILINE)) - {"request_id"} == METHODS
    assert [rpc for rpc in RPCS if rpc not in calls] == []


def test_the_document_names_what_the_package_has() -> None:
    text = DOCUMENT.read_text()
    for name in codeframe.client.__all__:
        if name not in ("Watch", "WatchItem"):
            assert name in text, f"docs/client.md says nothing of {name}"
    error = CodeframeError(None, "", "")  # type: ignore[arg-type]
    for attribute in vars(error):
        assert f"`{attribute}`" in text, f"docs/client.md says nothing of CodeframeError.{attribute}"
    for parameter in inspect.signature(Client.watch).parameters:
        assert parameter == "self" or f"{parameter}=" in text
    for name, argument in inspect.signature(Client.create_run).parameters.items():
        if argument.kind is argument.KEYWORD_ONLY:
            assert f"`{name}=`" in text or f"`{name}`" in text, f"docs/client.md says nothing of {name}"


async def test_the_documents_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    run = lead_pb2.Run(run_id="r", request_id="order-4711")
    lead = CannedLead(runs=[run])
    status = events_pb2.RunStatusChanged()
    await lead.tell(events_pb2.Event(run_id="r", run_status_changed=status), ended=run)
    async with serve(lead) as address:
        text = program.replace("127.0.0.1:50051", address)
        code = compile(text, "docs/client.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await eval(code, {})
    assert capsys.readouterr().out == "run_status_changed\n"
    (asked,) = lead.asked("CreateRun")
    assert asked.plan.tasks[0].id == "api"
