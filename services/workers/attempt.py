"""One attempt, from its request to its result: every ending but a cancellation becomes an outcome here."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from codeframe.plan import Protected
from services.runtime.git import GitError
from services.runtime.prices import Prices, our_prices
from services.workers.agent import STARTED, WorkerAgent
from services.workers.base_checks import told_checks
from services.workers.broadcast import Broadcast, Notice, Phase, TaskInProgress
from services.workers.checking import Checker
from services.workers.clock import Clock
from services.workers.desk import BaseFacts, Desk
from services.workers.evidence import AttemptLog, Evidence
from services.workers.failures import as_outcomes
from services.workers.halt import Halt
from services.workers.model.conversation import Model
from services.workers.mutation import MutationTrial
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.plan_desk import PlanDesk
from services.workers.purse import no_price
from services.workers.roles.role import Role
from services.workers.sandbox import Sandbox
from services.workers.setup import Environment, Setup
from services.workers.task_desk import TaskDesk
from services.workers.tools.clip import clip
from services.workers.work import AttemptRequest, PlanWork, TaskResult, TaskWork, VerifyWork
from services.workers.workspace import Branch, DataFolder, Repository, WorkNote, Worktree, commit_message

log = structlog.get_logger()

ENDING = 12.0  # seconds to commit, push and compare, once the work has ended; a stop waits 15

SAID = 4000  # characters of a command's output in a message


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, and why, for people."""

    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker does attempts with. `model` is None where it has no key."""

    data: DataFolder
    sandbox: Sandbox
    setup: Setup
    roles: Mapping[str, Role]
    model: Model | None
    model_name: str
    model_endpoint: str
    clock: Clock
    new_incident: Callable[[], str]
    prices: Prices = field(default_factory=our_prices)


class AttemptPerformer:
    """Does attempts, any number at the same time. A Perform."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def __call__(self, request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
        """Do an attempt to its end. See Perform."""
        means = self._means
        tell = AttemptLog(broadcast, means.clock)
        evidence = Evidence(request.attempt_id, means.clock.now(), means.sandbox.mode, log=tell)
        started = means.clock.monotonic()
        one = _Attempt(means, request, evidence, tell, halt)
        try:
            ending = await one.perform()
        except Exception as error:
            incident = means.new_incident()
            log.error("an attempt failed from within", incident=incident, exc_info=error)
            ending = Ending(Outcome.INTERNAL, f"incident {incident}: the worker's log explains it")
        await means.data.remove(means.data.attempt(request.attempt_id))
        took = timedelta(seconds=means.clock.monotonic() - started)
        waited = evidence.record.waited if evidence.record else timedelta()
        result = evidence.result(ending.outcome, ending.message, means.clock.now())
        return replace(result, wall_time=max(took - waited, timedelta()))


class _Attempt:
    """One attempt that is being done."""

    def __init__(
        self, means: Means, request: AttemptRequest, evidence: Evidence, tell: AttemptLog, halt: Halt
    ) -> None:
        self._means = means
        self._request = request
        self._evidence = evidence
        self._tell = tell
        self._halt = halt
        self._folder = means.data.attempt(request.attempt_id)
        self._repository: Repository = means.data.repository(request.repository)
        self._checker = Checker(
            means.data, means.sandbox, means.setup, means.clock, request, self._repository, evidence, tell
        )

    async def perform(self) -> Ending:
        match self._request.work:
            case TaskWork() as task:
                return await self._do_task(task)
            case VerifyWork() as work:
                return await self._do_verify(work)
            case PlanWork() as plan:
                return await self._do_plan(plan)

    async def _do_task(self, task: TaskWork) -> Ending:
        means, evidence = self._means, self._evidence
        start = task.start_commit or task.base_commit
        worktree = means.data.worktree(self._repository, self._folder / "tree")
        message = self._commit_message(task)
        branch = Branch(worktree, task.branch, start, task.base_commit, message, means.clock, self._note)
        evidence.base_commit, evidence.branch = task.base_commit, task.branch
        evidence.commit_subject, evidence.model_endpoint = branch.subject, means.model_endpoint
        evidence.unverified = task.unverified
        is_laid_out = False
        try:
            async with self._in_time():
                await self._tell(TaskInProgress(Phase.SETUP, STARTED))
                await self._repository.obtain(start)
                await self._repository.obtain(task.base_commit)
                await worktree.check_out(start)
                is_laid_out = True
                self._note(start, True)
                await self._have_it_done(task, worktree, branch)
            ending = self._unverified(branch) if task.unverified else self._proven(branch)
        except AttemptFailed as failure:
            ending = Ending(failure.outcome, failure.message)
        if not is_laid_out:
            return ending
        return await self._hand_in(branch, ending)

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Do what is inside within the attempt's time. Raises AttemptFailed for whatever goes wrong below."""
        with as_outcomes():
            time, then = self._request.limits.time
            async with self._halt.within(time.total_seconds(), then):
                yield

    def _commit_message(self, task: TaskWork) -> str:
        request, role = self._request, self._means.roles[self._request.role]
        trailers = [
            ("Codeframe-Run", request.run_id),
            ("Codeframe-Task", task.task_id),
            ("Codeframe-Attempt", request.attempt_id),
        ]
        return commit_message(role.commit_type, task.task_id, task.title, trailers)

    def _note(self, commit: str, pushed: bool) -> None:
        """Note whose work the workspace holds: where this worker is killed, its next start keeps it."""
        request = self._request
        branch = request.work.branch if isinstance(request.work, TaskWork) else ""
        WorkNote(request.attempt_id, request.repository, branch, commit, pushed).write(self._folder)

    async def _have_it_done(self, task: TaskWork, worktree: Worktree, branch: Branch) -> None:
        """Set the workspace up, and let an agent work in it until it is done."""
        means, request = self._means, self._request
        environment = None if task.unverified else await self._environment(task, worktree)
        files = await self._repository.files(task.base_commit)
        baseline = request.checks.baseline
        has_tests = baseline is None or bool(baseline.passing or baseline.red)
        desk = TaskDesk(
            task,
            means.roles[request.role],
            BaseFacts(request.checks.verification, has_tests, files),
            worktree,
            branch,
            environment,
            self._checker,
            self._tell,
            self._halt,
            MutationTrial(self._checker, means.clock, self._tell),
        )
        await self._have_agent_at(desk, task, self._tell)

    async def _have_agent_at(self, desk: Desk, work: TaskWork | PlanWork, tell: Broadcast) -> None:
        means, request = self._means, self._request
        if means.model is None:
            raise AttemptFailed(Outcome.INTERNAL, "this worker has no key for the model")
        model_name = work.model or means.model_name
        if request.limits.allowance.cost_micros is not None and not means.prices.of(model_name):
            raise AttemptFailed(Outcome.LIMIT_EXCEEDED, no_price(model_name))
        agent = WorkerAgent(
            means.roles[request.role],
            means.model,
            desk,
            tell,
            model_name=means.model_name,
            limits=request.limits,
            clock=means.clock,
        )
        try:
            await agent.execute_task(work)
        finally:
            self._evidence.record = agent.record

    async def _environment(self, task: TaskWork, worktree: Worktree) -> Environment:
        """What setup makes of the attempt's base, or of its own tree where it may change dependencies."""
        own = Protected.DEPENDENCIES in task.may_change
        if own or task.start_commit in ("", task.base_commit):
            return await self._checker.prepare(worktree.root)
        return await self._checker.prepare_commit(task.base_commit)

    def _proven(self, branch: Branch) -> Ending:
        """Success, where the evidence says so. Nothing is completed on an agent's word."""
        last = self._evidence.verifications[-1] if self._evidence.verifications else None
        if last is None or not last.green or last.commit != branch.pushed:
            raise AttemptFailed(Outcome.INTERNAL, "the agent says it is done, but no verification does")
        noticed = self._evidence.mutation_check
        is_asked = self._means.roles[self._request.role].mutations
        if is_asked and (noticed is None or not noticed.passed or noticed.commit != last.commit):
            raise AttemptFailed(Outcome.INTERNAL, "the agent says it is done, but its tests were not tried")
        return Ending(Outcome.SUCCEEDED)

    def _unverified(self, branch: Branch) -> Ending:
        """Success of a task that nothing verifies, where there is work to hand in."""
        if not branch.pushed:
            raise AttemptFailed(Outcome.INTERNAL, "the agent says it is done, but there is no commit")
        return Ending(Outcome.SUCCEEDED, "UNVERIFIED, as the plan says")

    async def _hand_in(self, branch: Branch, ending: Ending) -> Ending:
        """Push the work so far, whatever it is, and tell what it changes; within bounded time."""
        problems = []
        try:
            async with asyncio.timeout(ENDING):
                if ending.outcome is not Outcome.SUCCEEDED:
                    try:
                        await branch.save()
                    except GitError as error:
                        problems.append(f"the last of the work could not be pushed: {error}")
                self._evidence.commit = branch.pushed
                try:
                    await self._evidence.compare(self._repository)
                except GitError as error:
                    problems.append(str(error))
        except TimeoutError:
            problems.append(f"the last of the work could not be pushed within {ENDING:g} s")
            self._evidence.commit = branch.pushed
        return Ending(ending.outcome, "; ".join(filter(None, [ending.message, *problems])))

    async def _do_plan(self, work: PlanWork) -> Ending:
        """Let an agent read the base, and keep the plan that it makes. Nothing is committed."""
        evidence = self._evidence
        evidence.base_commit, evidence.model_endpoint = work.base_commit, self._means.model_endpoint
        worktree = self._means.data.worktree(self._repository, self._folder / "tree")

        async def tell(notice: Notice) -> None:
            if not isinstance(notice, TaskInProgress):  # there is no task
                await self._tell(notice)

        try:
            async with self._in_time():
                await self._repository.obtain(work.base_commit)
                await worktree.check_out(work.base_commit)
                paths = await self._repository.files(work.base_commit)
                checks = told_checks(worktree.root, paths, work.roles)
                verifications = {role: each.verification for role, each in checks.items()}
                desk = PlanDesk(work, verifications, worktree, tell, self._halt)
                await self._have_agent_at(desk, work, tell)
                evidence.keep_whole("plan", "application/json", desk.plan)
        except AttemptFailed as failure:
            return Ending(failure.outcome, failure.message)
        return Ending(Outcome.SUCCEEDED)

    async def _do_verify(self, work: VerifyWork) -> Ending:
        self._evidence.base_commit = self._request.run_base_commit
        try:
            async with self._in_time():
                await self._repository.obtain(work.commit, work.branch)
                report, judgement = await self._checker.check(work.commit, None)
        except AttemptFailed as failure:
            return Ending(failure.outcome, failure.message)
        if self._request.checks.baseline is None and judgement.outcome is Outcome.VERIFICATION_FAILED:
            # A run's base: tests that are red there count against nobody, but there must be a report of them.
            if report.tests:
                return Ending(Outcome.SUCCEEDED)
            said = "\n".join([judgement.summary, f"$ {report.command}", clip(report.output.strip(), SAID)])
            return Ending(Outcome.SETUP_FAILED, said)
        return Ending(judgement.outcome, judgement.summary)
