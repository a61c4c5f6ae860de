"""python -m bench.threaded THREADS MODEL_PORT: the way that ours replaces: synchronous agents in an executor.

It does what ours does and no more: the same edge, servicer and attempts, prompt, request, notices, transcript
and result. It asks as a synchronous agent does, by the SDK's own `messages.stream` and its final message; how
ours asks (services.workers.model) is a part of what is measured. Threads broadcast into the loop and wait for
nobody, as what is replaced did; all share one client, with connections for all of them. The only module of
this project that has threads.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import cast

from anthropic import Anthropic, DefaultHttpxClient
from anthropic.types import MessageParam, TextBlockParam, ToolParam

from bench.task import KEY, MODEL, ROLE, NoWorkspace, result
from bench.worker import serve
from services.workers.broadcast import Activity, Broadcast, Notice, Phase, TaskInProgress, TurnPaid
from services.workers.desk import AgentRecord
from services.workers.halt import Halt
from services.workers.model.claude import MAX_TOKENS, REQUEST_ID
from services.workers.model.conversation import Conversation, Reply, Stop, UserMessage
from services.workers.model.request import messages_of, system_of, tools_of
from services.workers.prompt import first_prompt, system_prompt
from services.workers.roles.role import Role, load_role
from services.workers.tools.toolbox import Toolbox
from services.workers.transcript import Transcript
from services.workers.work import AttemptRequest, ModelUsage, TaskResult, TaskWork, TurnUsage


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
        with self._client.messages.stream(
            model=conversation.model,
            max_tokens=MAX_TOKENS,
            system=cast("list[TextBlockParam]", system_of(conversation.system)),
            tools=cast("list[ToolParam]", tools_of(conversation.tools)),
            messages=cast("list[MessageParam]", messages_of(conversation)),
        ) as stream:
            message = stream.get_final_message()
            request_id = stream.response.headers.get(REQUEST_ID, "")
        content = tuple(block.to_dict() for block in message.content)
        text = "".join(block.text for block in message.content if block.type == "text")
        took, told = _now() - started, message.usage
        usage = ModelUsage(
            message.model,
            turns=1,
            input_tokens=told.input_tokens,
            output_tokens=told.output_tokens,
            cache_write_tokens=told.cache_creation_input_tokens or 0,
            cache_read_tokens=told.cache_read_input_tokens or 0,
        )
        reply = Reply(content, text, (), Stop(message.stop_reason), request_id)
        return reply, TurnUsage(1, usage, (request_id,), took)

    def _note(self, kind: str, **said: object) -> None:
        self._transcript.add(_now(), kind, **said)


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
