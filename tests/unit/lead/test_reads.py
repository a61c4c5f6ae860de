"""What LeadService answers from the journal's rows and the artifacts' files."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from codeframe.internal.v1 import rows_pb2
from codeframe.v1 import evidence_pb2, lead_pb2
from services.lead.artifacts import CHUNK, ArtifactStore
from services.lead.journal import Row, RowKind
from services.lead.machine.events import ArtifactHeld
from services.lead.reads import Reads
from services.runtime.errors import ServiceError
from tests.unit.lead.served import Served, private, served


@asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[tuple[Served, Reads, ArtifactStore]]:
    async with served(folder) as lead:
        artifacts = ArtifactStore(folder / "artifacts")
        yield lead, Reads(lead.journal, artifacts), artifacts


def attempt_row(run_id: str, task: int, number: int, *names: str, bound: bool = True) -> Row:
    attempt_id = f"{run_id}.t{task}.{number}"
    body = rows_pb2.AttemptRow(state=b"{}", request=bytes(60_000))
    if bound:
        result = evidence_pb2.TaskResult(artifacts=[evidence_pb2.Artifact(name=name) for name in names])
        body.public.CopyFrom(
            lead_pb2.Attempt(
                attempt_id=attempt_id, run_id=run_id, task_id=f"t{task}", number=number, result=result
            )
        )
    ordinal = 10 * task + number
    return Row(RowKind.ATTEMPT, attempt_id, ordinal, body.SerializeToString(), task_id=f"t{task}")


def reason(error: ServiceError) -> str:
    return error.reason.removeprefix("ERROR_REASON_")


async def test_a_run_comes_with_the_revision_that_changed_it(tmp_path: Path) -> None:
    async with reading(tmp_path) as (lead, reads, _):
        await lead.create("a")
        await lead.create("b")
        await lead.end("a")
        assert (await reads.run("a")).revision == 3
        assert (await reads.run("b")).revision == 2
        known = await reads.requested("shop", "request-a")
        assert known is not None
        assert known.run.run_id == "a"
        with pytest.raises(ServiceError, match="there is no run nobody") as refused:
            await reads.run("nobody")
        assert reason(refused.value) == "RUN_NOT_FOUND"


async def test_runs_come_newest_first_in_pages(tmp_path: Path) -> None:
    async with reading(tmp_path) as (lead, reads, _):
        for n in range(7):
            await lead.create(f"r{n}", "odd" if n % 2 else "even")
        seen, token, pages = [], "", 0
        while token or not pages:
            page = await reads.list_runs(lead_pb2.ListRunsRequest(page_size=3, page_token=token))
            seen += [run.run_id for run in page.runs]
            token, pages = page.next_page_token, pages + 1
        assert (seen, pages) == ([f"r{n}" for n in range(6, -1, -1)], 3)
        odd = await reads.list_runs(lead_pb2.ListRunsRequest(project="odd"))
        assert [run.run_id for run in odd.runs] == ["r5", "r3", "r1"]
        assert odd.next_page_token == ""


async def test_tasks_come_in_plan_order_in_pages(tmp_path: Path) -> None:
    async with reading(tmp_path) as (lead, reads, _):
        await lead.create("a", tasks=250)
        await lead.move("a", 3, 40)
        first = await reads.list_tasks(lead_pb2.ListTasksRequest(run_id="a"))
        assert [task.task_id for task in first.tasks] == [f"t{n}" for n in range(100)]
        assert (first.tasks[3].progress, first.tasks[3].revision, first.tasks[4].revision) == (40, 2, 1)
        rest = await reads.list_tasks(
            lead_pb2.ListTasksRequest(run_id="a", page_size=500, page_token=first.next_page_token)
        )
        assert [task.task_id for task in rest.tasks] == [f"t{n}" for n in range(100, 250)]
        assert rest.next_page_token == ""
        with pytest.raises(ServiceError) as refused:
            await reads.list_tasks(lead_pb2.ListTasksRequest(run_id="nobody"))
        assert reason(refused.value) == "RUN_NOT_FOUND"


async def test_attempts_come_of_a_run_or_of_a_task(tmp_path: Path) -> None:
    async with reading(tmp_path) as (lead, reads, _):
        await lead.create("a", tasks=3)
        rows = [attempt_row("a", task, number) for task in range(2) for number in range(1, 8)]
        await lead.tell("a", [private()], [*rows, attempt_row("a", 2, 1, bound=False)])
        seen, token, pages = [], "", 0
        while token or not pages:
            page = await reads.list_attempts(lead_pb2.ListAttemptsRequest(run_id="a", page_token=token))
            assert all(attempt.revision == 2 for attempt in page.attempts)
            seen += [attempt.attempt_id for attempt in page.attempts]
            token, pages = page.next_page_token, pages + 1
        assert seen == [f"a.t{task}.{number}" for task in range(2) for number in range(1, 8)]
        assert pages > 1  # Their rows are large, and a page holds fewer.
        one = await reads.list_attempts(lead_pb2.ListAttemptsRequest(run_id="a", task_id="t1", page_size=2))
        assert [attempt.attempt_id for attempt in one.attempts] == ["a.t1.1", "a.t1.2"]
        none = await reads.list_attempts(lead_pb2.ListAttemptsRequest(run_id="a", task_id="t2"))
        assert list(none.attempts) == []
        for run_id, task_id, why in (("nobody", "", "RUN_NOT_FOUND"), ("a", "t9", "TASK_NOT_FOUND")):
            with pytest.raises(ServiceError) as refused:
                await reads.list_attempts(lead_pb2.ListAttemptsRequest(run_id=run_id, task_id=task_id))
            assert reason(refused.value) == why


async def test_workers_come_by_address_in_pages(tmp_path: Path) -> None:
    async with reading(tmp_path) as (_, reads, _artifacts):
        workers = [lead_pb2.Worker(address=f"127.0.0.1:{port}") for port in (50063, 50061, 50062)]
        first = reads.list_workers(lead_pb2.ListWorkersRequest(page_size=2), workers)
        assert [each.address[-1] for each in first.workers] == ["1", "2"]
        rest = reads.list_workers(lead_pb2.ListWorkersRequest(page_token=first.next_page_token), workers)
        assert [each.address[-1] for each in rest.workers] == ["3"]
        assert rest.next_page_token == ""


async def test_a_page_token_is_good_for_its_request_alone(tmp_path: Path) -> None:
    async with reading(tmp_path) as (lead, reads, _):
        for run_id in ("a", "b", "c"):
            await lead.create(run_id, tasks=3)
        token = (await reads.list_tasks(lead_pb2.ListTasksRequest(run_id="a", page_size=1))).next_page_token
        for request in (
            lead_pb2.ListTasksRequest(run_id="b", page_token=token),
            lead_pb2.ListTasksRequest(run_id="a", page_token=token[:-4]),
            lead_pb2.ListTasksRequest(run_id="a", page_token="7"),
            lead_pb2.ListTasksRequest(run_id="a", page_token="é"),
            lead_pb2.ListTasksRequest(run_id="a", page_token=token[:8] + "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"),
            lead_pb2.ListTasksRequest(run_id="a", page_token=token[:8] + "eHl6"),
        ):
            with pytest.raises(ServiceError) as refused:
                await reads.list_tasks(request)
            assert reason(refused.value) == "INVALID_PAGE_TOKEN"
            assert [violation.field for violation in refused.value.violations] == ["page_token"]
        runs = await reads.list_runs(lead_pb2.ListRunsRequest(page_size=1))
        with pytest.raises(ServiceError):
            await reads.list_runs(lead_pb2.ListRunsRequest(project="shop", page_token=runs.next_page_token))


async def test_artifacts_are_those_that_are_held(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3_000

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield data

    async def read(attempt_id: str, name: str, offset: int = 0) -> list[bytes]:
        request = lead_pb2.ReadArtifactRequest(attempt_id=attempt_id, name=name, offset=offset)
        return [response.data async for response in reads.read_artifact(request)]

    async with reading(tmp_path) as (lead, reads, artifacts):
        await lead.create("a")
        await lead.tell(
            "a", [private()], [attempt_row("a", 0, 1, "log", "diff", "lost"), attempt_row("a", 0, 2)]
        )
        for name in ("log", "diff", "secret"):
            held = ArtifactHeld(name, "", len(data), hashlib.sha256(data).hexdigest())
            await artifacts.write("a", "a.t0.1", held, chunks())
        listed = await reads.list_artifacts(lead_pb2.ListArtifactsRequest(attempt_id="a.t0.1"))
        assert [each.name for each in listed.artifacts] == ["diff", "log"]
        running = await reads.list_artifacts(lead_pb2.ListArtifactsRequest(attempt_id="a.t0.2"))
        assert list(running.artifacts) == []
        got = await read("a.t0.1", "log")
        assert b"".join(got) == data
        assert max(map(len, got)) <= CHUNK
        assert b"".join(await read("a.t0.1", "log", 700_000)) == data[700_000:]
        assert await read("a.t0.1", "log", len(data) + 1) == []
        for attempt_id, name, why in (
            ("a.t0.1", "secret", "ARTIFACT_NOT_FOUND"),
            ("a.t0.1", "lost", "ARTIFACT_NOT_FOUND"),
            ("a.t0.9", "log", "ATTEMPT_NOT_FOUND"),
        ):
            with pytest.raises(ServiceError) as refused:
                await read(attempt_id, name)
            assert reason(refused.value) == why
        with pytest.raises(ServiceError) as refused:
            await reads.list_artifacts(lead_pb2.ListArtifactsRequest(attempt_id="nobody"))
        assert reason(refused.value) == "ATTEMPT_NOT_FOUND"
