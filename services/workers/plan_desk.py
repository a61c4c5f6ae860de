"""The desk of a planner: a base to read, and a plan to be judged."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from google.protobuf import json_format

from codeframe.plan import Plan, faults
from services.runtime.validation import violations
from services.workers.broadcast import Activity, Broadcast
from services.workers.desk import BaseFacts, GitAnswer, Verdict
from services.workers.git_reading import read_git
from services.workers.halt import Halt
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.translation import write_plan
from services.workers.work import PlanWork
from services.workers.workspace import Worktree

SIZE_LIMIT = 1 << 20
_FAULTS_TOLD = 30
_NOT_FOUND = "none is found: each task names one"


class PlanDesk:
    """A Desk on a worktree that nobody writes to. The plan that was proposed last is judged."""

    def __init__(
        self,
        work: PlanWork,
        verifications: Mapping[str, str],
        worktree: Worktree,
        broadcast: Broadcast,
        halt: Halt,
    ) -> None:
        """`verifications` are what the base tells for each role; empty where it tells none."""
        self._work = work
        self._worktree = worktree
        self._broadcast = broadcast
        self._halt = halt
        self._verifications = verifications
        self._proposed: Plan | None = None
        self.plan = b""
        """The plan that was found good, as ProtoJSON."""

    @property
    def root(self) -> Path:
        """See Workspace."""
        return self._worktree.root

    @property
    def base(self) -> BaseFacts:
        """See Desk."""
        lines = [f"  - {role}: {_told(command)}" for role, command in self._verifications.items()]
        return BaseFacts("\n".join(lines), has_tests=True)

    def clock_stopped(self) -> AbstractContextManager[None]:
        """See Desk."""
        return self._halt.clock_stopped()

    async def git(self, *arguments: str) -> GitAnswer:
        """See Workspace."""
        return await read_git(self._worktree, *arguments)

    async def run_tests(self, paths: Sequence[str]) -> str:
        """See Workspace. A planner has nothing to test."""
        raise AttemptFailed(Outcome.INTERNAL, "a role that makes plans has the tool run_tests, and must not")

    def propose(self, plan: Plan) -> None:
        """See Planned."""
        self._proposed = plan

    async def verify(self) -> Verdict:
        """Judge the plan that was proposed last. See Desk."""
        if self._proposed is None:
            verdict = Verdict(False, "no plan was proposed", "Call propose_plan, then end your turn.")
        else:
            verdict = self._judged(self._proposed)
        told = f"the plan is good: {len(self._proposed.tasks)} tasks" if self._proposed else ""
        await self._broadcast(Activity("verification", told if verdict.green else verdict.summary))
        return verdict

    def _judged(self, plan: Plan) -> Verdict:
        message = write_plan(plan)
        found = [f"{each.field}: {each.message}" for each in violations(message)]
        found += [f"{each.path.removeprefix('plan.')}: {each.message}" for each in faults(plan)]
        for index, task in enumerate(plan.tasks):
            if task.role not in self._verifications:
                roles = ", ".join(self._work.roles)
                found.append(f"tasks[{index}].role: {task.role!r} is no role here; there are: {roles}")
            elif task.unverified:
                found.append(f"tasks[{index}].verification: only people may say that nothing verifies a task")
            elif not task.verification and not self._verifications[task.role]:
                found.append(f"tasks[{index}].verification: the base tells none for {task.role}; name one")
        data = json_format.MessageToJson(message, preserving_proto_field_name=True).encode()
        if len(data) > SIZE_LIMIT:
            found.append(f"the plan has {len(data)} bytes, over {SIZE_LIMIT}: make fewer or shorter tasks")
        if not found:
            self.plan = data
            return Verdict(True)
        more = [f"and {len(found) - _FAULTS_TOLD} more"] if len(found) > _FAULTS_TOLD else []
        text = "\n".join(["Propose the plan again, mended:", *found[:_FAULTS_TOLD], *more])
        return Verdict(False, f"the plan cannot be run: {found[0]}", text)


def _told(command: str) -> str:
    return f"`{command}`" if command else _NOT_FOUND
