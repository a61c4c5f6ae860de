"""What the change from threads to async means for the code itself, checked on its syntax tree."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from services.workers.role_agents import BackendWorkerAgent, FrontendWorkerAgent, TestWorkerAgent
from tests.contract.async_rules import (
    Offence,
    Rule,
    detects_a_loop,
    forgets_a_task,
    hides_what_it_calls,
    leaves_the_loop,
    leaves_unawaited,
)

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("codeframe", "services", "gateway", "demo")


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Every module of ours that may run beside an event loop."""
    return tuple(
        (str(path.relative_to(ROOT)), ast.parse(path.read_text()))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if "_pb2" not in path.name and not path.is_relative_to(ROOT / "demo/project")
    )


def found(rule: Rule) -> list[str]:
    """What a rule finds in the whole house."""
    return [f"{path}:{each.line}: {each.what}" for path, tree in trees() for each in rule(tree)]


def seen(rule: Rule, source: str) -> list[Offence]:
    return list(rule(ast.parse(textwrap.dedent(source))))


def test_there_is_a_house_to_look_at() -> None:
    names = [path for path, _ in trees()]
    assert len(names) > 150
    assert {"services/workers/agent.py", "gateway/sse.py", "codeframe/client/watch.py"} <= set(names)


def test_no_work_leaves_the_event_loop() -> None:
    assert found(leaves_the_loop) == []


def test_only_what_we_are_measured_against_has_threads() -> None:
    bench = {path.name: ast.parse(path.read_text()) for path in (ROOT / "bench").glob("*.py")}
    assert {name for name, tree in bench.items() if list(leaves_the_loop(tree))} == {"threaded.py"}


def test_nothing_asks_whether_a_loop_runs() -> None:
    assert found(detects_a_loop) == []


def test_no_task_is_fired_and_forgotten() -> None:
    assert found(forgets_a_task) == []


def test_nothing_that_these_rules_know_goes_by_another_name() -> None:
    assert found(hides_what_it_calls) == []


def test_execute_task_and_broadcasts_are_awaited_wherever_they_are_called() -> None:
    assert found(leaves_unawaited) == []


@pytest.mark.parametrize("agent", [BackendWorkerAgent, FrontendWorkerAgent, TestWorkerAgent])
def test_execute_task_of_each_agent_is_a_coroutine_function(agent: type[object]) -> None:
    assert inspect.iscoroutinefunction(agent.execute_task)  # type: ignore[attr-defined]


def test_async_anthropic_is_the_only_client_and_made_in_one_place() -> None:
    used = [f"{path}: {name}" for path, tree in trees() for name in of_anthropic(tree)]
    assert [each for each in used if is_client(each)] == [
        "services/workers/model/claude.py: AsyncAnthropic",
        "services/workers/model/claude.py: DefaultAioHttpClient",
    ]
    made = [path for path, tree in trees() for node in ast.walk(tree) if is_made(node, "AsyncAnthropic")]
    assert made == ["services/workers/model/claude.py"]


@pytest.mark.parametrize(
    "source",
    [
        "from anthropic import Anthropic as Claude",
        "from anthropic import AsyncAnthropicBedrock",
        "from anthropic import *",
        "import anthropic as claude\nclaude.Anthropic()",
        "import anthropic._client\nanthropic._client.Anthropic()",
        "from anthropic import _client as inner\ninner.Anthropic()",
    ],
)
def test_a_client_of_anthropic_is_seen_whatever_it_is_called(source: str) -> None:
    assert any(map(is_client, of_anthropic(ast.parse(source))))


def of_anthropic(tree: ast.Module) -> Iterator[str]:
    """The names that a module takes from the anthropic package."""
    bound = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] == "anthropic":
                bound |= {each.asname or each.name for each in names}
                yield from (each.name for each in names)
            case ast.Import(names=names):
                ours = [each for each in names if each.name.partition(".")[0] == "anthropic"]
                bound |= {each.asname or "anthropic" for each in ours}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).partition(".")[0] in bound:
            yield node.attr


def is_client(name: str) -> bool:
    """Whether a name of anthropic's is that of a client, or may be any."""
    return name == "*" or (("Anthropic" in name or "Client" in name) and not name.endswith("Error"))


def is_made(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
            return called == name
    return False


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (leaves_the_loop, "async def f(loop): await loop.run_in_executor(None, g)"),
        (leaves_the_loop, "async def f(): await asyncio.to_thread(g)"),
        (leaves_the_loop, "from asyncio import to_thread as away"),
        (leaves_the_loop, "import threading"),
        (leaves_the_loop, "import concurrent.futures as pools"),
        (leaves_the_loop, "from concurrent import futures"),
        (leaves_the_loop, "asyncio.new_event_loop()"),
        (leaves_the_loop, "async def f(loop):\n    away = loop.run_in_executor\n    await away(None, g)"),
        (leaves_the_loop, "async def f(loop): await getattr(loop, 'run_in_executor')(None, g)"),
        (leaves_the_loop, "threads = importlib.import_module('threading')"),
        (leaves_the_loop, "async def f(loop): await loop.getaddrinfo(host, port)"),
        (leaves_the_loop, "from starlette.concurrency import run_in_threadpool"),
        (leaves_the_loop, "async def f(loop): await partial(loop.run_in_executor, None)(g)"),
        (leaves_the_loop, "ways = {'away': loop.run_in_executor}"),
        (leaves_the_loop, "operator.methodcaller('run_in_executor', None, g)(loop)"),
        (leaves_the_loop, "from threading import Timer as Later"),
        (leaves_the_loop, "import multiprocessing.dummy as threads"),
        (leaves_the_loop, "from anyio.to_thread import run_sync"),
        (leaves_the_loop, "async def f(): await anyio.to_thread.run_sync(g)"),
        (leaves_the_loop, "from asgiref.sync import sync_to_async as away"),
        (leaves_the_loop, "logging.handlers.QueueListener(queue)"),
        (leaves_the_loop, "channel = grpc.insecure_channel(address)"),
        (leaves_the_loop, "from grpc import server as serve"),
        (leaves_the_loop, "exec(code)"),
        (detects_a_loop, "asyncio.get_event_loop()"),
        (
            detects_a_loop,
            """
            def broadcast(message):
                try:
                    loop = asyncio.get_running_loop()
                except RuntimeError:
                    return
            """,
        ),
        (
            detects_a_loop,
            """
            def f():
                with contextlib.suppress(ValueError, RuntimeError):
                    asyncio.get_running_loop().call_soon(g)
            """,
        ),
        (hides_what_it_calls, "from asyncio import get_running_loop as running"),
        (hides_what_it_calls, "spawn = asyncio.create_task"),
        (hides_what_it_calls, "def f(loop): tasks.update(map(loop.create_task, work))"),
        (hides_what_it_calls, "import asyncio as aio"),
        (hides_what_it_calls, "from asyncio import Task"),
        (hides_what_it_calls, "from asyncio import gather"),
        (hides_what_it_calls, "from asyncio.tasks import create_task"),
        (hides_what_it_calls, "from asyncio import tasks"),
        (hides_what_it_calls, "async def f(): asyncio.tasks.Task(g())"),
        (hides_what_it_calls, "import asyncio.threads as away"),
        (hides_what_it_calls, "class Background(asyncio.Task): pass"),
        (hides_what_it_calls, "factory = asyncio.create_eager_task_factory(asyncio.Task)"),
        (hides_what_it_calls, "async def f(): getattr(asyncio, name)(g())"),
        (hides_what_it_calls, "async def f(loop): getattr(loop, 'create_task')(g())"),
        (hides_what_it_calls, "spawn = operator.attrgetter('create_task')"),
        (hides_what_it_calls, "async def f(): partial(asyncio.create_task, g())()"),
        (hides_what_it_calls, "ways = {'later': asyncio.create_task}"),
        (hides_what_it_calls, "from contextlib import suppress as may_fail"),
        (forgets_a_task, "async def f(): asyncio.create_task(g())"),
        (forgets_a_task, "async def f(): asyncio.Task(g())"),
        (forgets_a_task, "Child = asyncio.Task[None]\nasync def f(): Child(g())"),
        (forgets_a_task, "async def f(): asyncio.gather(g(), h())"),
        (forgets_a_task, "def f(self): self._both = asyncio.shield(g())"),
        (forgets_a_task, "async def f(): task = asyncio.create_task(g())"),
        (forgets_a_task, "async def f(): return asyncio.create_task(g())"),
        (forgets_a_task, "def f(self): self._task = self._loop.create_task(g())"),
        (forgets_a_task, "async def f(): tasks.add(asyncio.create_task(g()))"),
        (
            forgets_a_task,
            """
            async def f(self):
                task = asyncio.create_task(g())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            """,
        ),
        (
            forgets_a_task,
            """
            async def f():
                task = asyncio.create_task(g())
                task = asyncio.create_task(h())
                await task
            """,
        ),
        (
            forgets_a_task,
            """
            class Keeper:
                def __init__(self, group: asyncio.TaskGroup): self._group = group
            class Other:
                def f(self): self._group.create_task(g())
            """,
        ),
        (
            forgets_a_task,
            """
            async def f():
                task = asyncio.create_task(g())
                async def other(): await task
            """,
        ),
        (
            forgets_a_task,
            """
            async def f():
                async with asyncio.TaskGroup() as group: pass
            async def other(group): group.create_task(g())
            """,
        ),
        (leaves_unawaited, "async def f(agent): agent.execute_task(work)"),
        (leaves_unawaited, "async def f(self): asyncio.gather(self._broadcast(notice))"),
        (leaves_unawaited, "async def f(self, group): group.create_task(self._broadcast(notice))"),
        (leaves_unawaited, "async def f(self):\n    say = self._broadcast\n    say(notice)"),
        (leaves_unawaited, "async def f(self): self.later = partial(self._broadcast, notice)"),
        (leaves_unawaited, "def f(tell: Broadcast): return tell(notice)"),
        (leaves_unawaited, "def f(broadcast):\n    tell = AttemptLog(broadcast)\n    return tell(notice)"),
        (leaves_unawaited, "def f(channel):\n    call = channel.unary_unary(name)\n    return call(request)"),
    ],
)
def test_each_rule_sees_what_it_forbids(rule: Rule, source: str) -> None:
    assert seen(rule, source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (detects_a_loop, "async def f(): asyncio.get_running_loop().time()"),
        (
            forgets_a_task,
            """
            async def f():
                async with asyncio.TaskGroup() as group:
                    group.create_task(g())
            """,
        ),
        (forgets_a_task, "def f(group: asyncio.TaskGroup): group.create_task(g())"),
        (
            forgets_a_task,
            """
            class Keeper:
                def __init__(self, group: asyncio.TaskGroup):
                    self._group = group
                def keep(self): self._group.create_task(g())
            """,
        ),
        (
            forgets_a_task,
            """
            async def f():
                task = asyncio.create_task(g())
                await asyncio.shield(task)
            """,
        ),
        (forgets_a_task, "async def f(): return await asyncio.gather(g(), h())"),
        (
            forgets_a_task,
            """
            async def f():
                async with asyncio.TaskGroup() as group:
                    async def inner(): group.create_task(g())
            """,
        ),
        (hides_what_it_calls, "def f(gather: float): return gather"),
        (hides_what_it_calls, "Child = asyncio.Task[None]\ndef f(task: asyncio.Task): pass"),
        (hides_what_it_calls, "from asyncio.subprocess import PIPE\nprint(asyncio.subprocess.DEVNULL)"),
        (leaves_the_loop, "channel = grpc.aio.insecure_channel(address)"),
        (leaves_unawaited, "async def f(agent): return await agent.execute_task(work)"),
    ],
)
def test_no_rule_sees_more_than_that(rule: Rule, source: str) -> None:
    assert seen(rule, source) == []
