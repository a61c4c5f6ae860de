"""The agent: asks its model, does what it says, shows it what came of that, until the work is verified."""

from datetime import timedelta

from services.workers.broadcast import (
    Activity,
    Broadcast,
    Correction,
    CorrectionStatus,
    Phase,
    TaskInProgress,
    TurnPaid,
)
from services.workers.calls import described
from services.workers.clock import Clock
from services.workers.context import shortened
from services.workers.desk import AgentRecord, Desk, Verdict
from services.workers.model.conversation import (
    Conversation,
    ConversationTooLong,
    Model,
    Reply,
    Stop,
    UserMessage,
)
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.prompt import GO_ON, correction_prompt, first_prompt, system_prompt
from services.workers.purse import Purse
from services.workers.repeats import Repeats
from services.workers.roles.role import Role
from services.workers.roles.scope import Scope
from services.workers.tools.clip import clip, line
from services.workers.tools.toolbox import Toolbox
from services.workers.transcript import Transcript
from services.workers.turn import Turn
from services.workers.work import Limits, ModelUsage, PlanWork, TaskWork, TurnUsage

MAX_MESSAGE = 8000
STARTED, VERIFYING = 10, 80  # progress


class WorkerAgent:
    """Does one task or makes one plan, in one role. `record` tells what it did, also after it was stopped."""

    def __init__(
        self,
        role: Role,
        model: Model,
        desk: Desk,
        broadcast: Broadcast,
        *,
        model_name: str,
        limits: Limits,
        clock: Clock,
    ) -> None:
        """Lay everything ready. `model_name` is asked where the task names none."""
        self._role = role
        self._model = model
        self._desk = desk
        self._broadcast = broadcast
        self._model_name = model_name
        self._limits = limits
        self._clock = clock
        self._transcript = Transcript()
        self._repeats = Repeats()
        self._purse = Purse(limits.allowance)
        self._usage: dict[str, ModelUsage] = {}
        self._paid: list[TurnUsage] = []
        self._turns = 0
        self._corrections = 0
        self._waited = 0.0

    async def execute_task(self, task: TaskWork | PlanWork) -> AgentRecord:
        """Work until the desk's verification is green; correct the work as often as allowed.

        Cancelled, it stops where it is, and nothing it started goes on. Raises AttemptFailed for every
        other ending. Called once.
        """
        self._toolbox = Toolbox(self._role.tools, self._desk, self._scope(task))
        model, system = task.model or self._model_name, system_prompt(self._role)
        self._conversation = Conversation(model, system, self._toolbox.specs, ())
        self._note("start", role=self._role.name, model=model, system=system)
        await self._broadcast(TaskInProgress(Phase.WORKING, STARTED))
        self._tell(UserMessage(text=first_prompt(task, self._desk.base, self._role)))
        await self._work()
        verdict = await self._verify()
        while not verdict.green:
            verdict = await self._correct(verdict)
        return self.record

    @property
    def record(self) -> AgentRecord:
        """What was done so far."""
        return AgentRecord(
            turns=self._turns,
            corrections=self._corrections,
            usage=tuple(self._usage.values()),
            waited=timedelta(seconds=self._waited),
            transcript=self._transcript.data(),
            transcript_truncated=self._transcript.truncated,
            paid=tuple(self._paid),
        )

    def _scope(self, task: TaskWork | PlanWork) -> Scope:
        if isinstance(task, PlanWork):
            return self._role.scope(frozenset(), frozenset())
        base = self._desk.base
        return self._role.scope(task.may_change, base.files, task.scope, base.verification)

    async def _correct(self, verdict: Verdict) -> Verdict:
        """Show the model what is red, let it work, and verify again."""
        if verdict.final is not None:
            raise AttemptFailed(verdict.final, verdict.summary)
        number, limit = self._corrections + 1, self._limits.corrections
        if number > limit:
            raise AttemptFailed(Outcome.VERIFICATION_FAILED, clip(verdict.message, MAX_MESSAGE))
        self._corrections = number
        found = line(verdict.summary, 1000)
        await self._broadcast(Correction(number, limit, CorrectionStatus.STARTED, found))
        await self._broadcast(TaskInProgress(Phase.CORRECTING, VERIFYING))
        self._repeats = Repeats()
        self._tell(UserMessage(text=correction_prompt(number, limit, verdict)))
        await self._work()
        verdict = await self._verify()
        status = CorrectionStatus.SUCCEEDED if verdict.green else CorrectionStatus.FAILED
        await self._broadcast(Correction(number, limit, status))
        return verdict

    async def _verify(self) -> Verdict:
        verdict = await self._desk.verify()
        self._note("verdict", green=verdict.green, summary=verdict.summary, text=verdict.text)
        return verdict

    async def _work(self) -> None:
        """Query, act, observe, until the model ends its turn."""
        while True:
            reply = await self._query()
            if reply.stop is Stop.END_TURN:
                return
            self._repeats.did(reply.calls)
            observed = await self._act(reply)
            self._tell(observed)
            self._repeats.found(reply.calls, observed.results)

    async def _query(self) -> Reply:
        if self._turns >= self._limits.turns:
            raise AttemptFailed(Outcome.STUCK, f"not done after {self._turns} turns")
        self._purse.begin_turn()
        self._turns += 1
        turn = Turn(self._desk, self._broadcast, self._clock, self._purse)
        started = self._clock.monotonic()
        try:
            try:
                reply = await self._ask(turn)
            finally:
                self._settle(turn, started)
        except AttemptFailed:
            await self._pay(turn)
            raise
        await self._pay(turn)
        self._hear(reply)
        if reply.text.strip():
            await self._broadcast(Activity("model", line(reply.text)))
        return reply

    async def _ask(self, turn: Turn) -> Reply:
        """Ask the model; a conversation that has outgrown its context is shortened and asked with again."""
        while True:
            try:
                return await self._model.turn(self._conversation, turn)
            except ConversationTooLong as error:
                shorter = shortened(self._conversation)
                if shorter is None:  # the task alone is too long, and always will be; or what was said since
                    outcome = Outcome.PROVIDER_REJECTED if self._turns == 1 else Outcome.STUCK
                    raise AttemptFailed(outcome, f"nothing is left to be shortened: {error}") from None
            self._conversation = shorter.conversation
            self._note("shortened", messages=shorter.messages)
            told = f"{shorter.messages} old messages were shortened"
            await self._broadcast(Activity("model", f"the conversation outgrew the model's context: {told}"))

    async def _act(self, reply: Reply) -> UserMessage:
        """Do what the reply asks for; the results are what the model is told next."""
        if reply.stop is Stop.CUT_OFF:
            return UserMessage(text=GO_ON)
        for call in reply.calls:
            await self._broadcast(Activity("tool", described([call])))
        return UserMessage(await self._toolbox.run(reply.calls))

    def _tell(self, message: UserMessage) -> None:
        self._conversation = self._conversation.with_message(message)
        results = [{"call": r.call_id, "text": r.text, "error": r.is_error} for r in message.results]
        self._note("user", results=results, text=message.text)

    def _hear(self, reply: Reply) -> None:
        self._conversation = self._conversation.with_message(reply)
        self._note("reply", content=reply.content, stop=reply.stop.value, request=reply.request_id)

    def _note(self, kind: str, **said: object) -> None:
        self._transcript.add(self._clock.now(), kind, **said)

    def _settle(self, turn: Turn, started: float) -> None:
        """Add what the turn took to the record, however it ended."""
        self._waited += turn.waited
        if turn.usage is not None:
            before = self._usage.get(turn.usage.model, ModelUsage(turn.usage.model))
            self._usage[turn.usage.model] = before + turn.usage
            took = timedelta(seconds=self._clock.monotonic() - started - turn.waited)
            self._paid.append(TurnUsage(self._turns, turn.usage, turn.request_ids, took))

    async def _pay(self, turn: Turn) -> None:
        if turn.usage is not None:
            last = self._paid[-1]
            await self._broadcast(TurnPaid(last.turn, last.usage, last.request_ids[-1], last.duration))
