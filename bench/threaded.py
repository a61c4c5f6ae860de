"""python -m bench.threaded THREADS MODEL_PORT: the way that ours replaces: synchronous agents in an executor.

It does what ours does and no more: the same edge, servicer and attempts, prompt, request, stream, notices,
transcript and result. Threads broadcast into the loop and wait for nobody, as what is replaced did; all share
one client. The only module of this project that has threads.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx2
from anthropic import Anthropic, DefaultHttpxClient, Stream

from bench.task import KEY, MODEL, ROLE, NoWorkspace, result
from bench.worker import serve
from services.workers.broadcast import Activity, Broadcast, Notice, Phase, TaskInProgress, TurnPaid
from services.workers.desk import AgentRecord
from services.workers.halt import Halt
from services.workers.model.claude import MAX_TOKENS, MESSAGES
from services.workers.model.conversation import Conversation, Reply, UserMessage
from services.workers.model.events import EventDecoder
from services.workers.model.request import body_of
from services.workers.model.stream import ReplyStream
from services.workers.prompt import first_prompt, system_prompt
from services.workers.roles.role import Role, load_role
from services.workers.tools.toolbox import Toolbox
from services.workers.transcript import Transcript
from services.workers.work import AttemptRequest, TaskResult, TaskWork, TurnUsage


class ThreadedAgent:
    """Does the task on the thread that calls it."""

    def __init__(self, role: Role, client: Anthropic, tell: Callable[[Notice], None]) -> None:
        self._role = role
        self._client = client
        self._tell = tell
        self._transcript = Transcript()

    def execute_task(self, request: AttemptRequest) -> TaskResult:
        """Ask the model once, and take its word."""
        start, task, desk = _now(), request.work, NoWorkspace()
        assert isinstance(task, TaskWork)
        scope = self._role.scope(task.may_change, desk.base.files, task.scope)
        system, told = system_prompt(self._role), first_prompt(task, desk.base, self._role)
        tools = Toolbox(self._role.tools, desk, scope).specs
        conversation = Conversation(MODEL, system, tools, (UserMessage(text=told),))
        self._note("start", role=self._role.name, model=MODEL, system=system)
        self._tell(TaskInProgress(Phase.WORKING, 10))
        self._note("user", results=[], text=told)
        reply, turn = self._ask(conversation)
        self._tell(TurnPaid(1, turn.usage, turn.request_ids[0], turn.duration))
        self._note("reply", content=reply.content, stop=reply.stop.value, request=reply.request_id)
        self._tell(Activity("model", reply.text))
        self._note("verdict", green=True, summary="", text="")
        record = AgentRecord(
            turns=1,
            corrections=0,
            usage=(turn.usage,),
            waited=timedelta(),
            transcript=self._transcript.data(),
            transcript_truncated=False,
            paid=(turn,),
        )
        return result(request, record, start, _now())

    def _ask(self, conversation: Conversation) -> tuple[Reply, TurnUsage]:
        started = _now()
        response = cast(
            "httpx2.Response",
            self._client.post(
                MESSAGES,
                cast_to=httpx2.Response,
                content=body_of(conversation, MAX_TOKENS),
                stream=True,
                stream_cls=Stream[object],
            ),
        )
        with closing(response):
            stream = ReplyStream(conversation.model, response.headers.get("request-id", ""))
            _read(response, stream)
        reply = stream.reply()
        return reply, TurnUsage(1, stream.usage, (reply.request_id,), _now() - started)

    def _note(self, kind: str, **said: object) -> None:
        self._transcript.add(_now(), kind, **said)


def _read(response: httpx2.Response, stream: ReplyStream) -> None:
    decoder = EventDecoder()
    for piece in response.iter_bytes():
        for event in decoder.feed(piece):
            stream.take(event)
            if stream.ended:
                return


class ThreadedWork:
    """Has an executor's threads do attempts. A Perform."""

    def __init__(self, threads: ThreadPoolExecutor, client: Anthropic) -> None:
        self._threads = threads
        self._client = client
        self._role = load_role(ROLE)

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        """Do it. See Perform; but that no thread can be told to stop."""
        loop = asyncio.get_running_loop()

        def tell(notice: Notice) -> None:
            asyncio.run_coroutine_threadsafe(_told(broadcast, notice), loop)

        agent = ThreadedAgent(self._role, self._client, tell)
        return await loop.run_in_executor(self._threads, agent.execute_task, request)


async def _told(broadcast: Broadcast, notice: Notice) -> None:
    await broadcast(notice)


def _now() -> datetime:
    return datetime.now(UTC)


async def main(threads: int, model_port: str) -> None:
    """Serve until the parent ends."""
    url = f"http://127.0.0.1:{model_port}"
    with (
        ThreadPoolExecutor(threads) as pool,
        Anthropic(
            api_key=KEY,
            base_url=url,
            max_retries=0,
            http_client=DefaultHttpxClient(trust_env=False),
        ) as client,
    ):
        await serve(ThreadedWork(pool, client), url)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2])))
