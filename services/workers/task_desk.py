"""The desk of an agent: its workspace, its tests, and the verification of what it commits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from codeframe.plan import Protected
from services.workers.broadcast import Activity, Broadcast, Phase, TaskInProgress
from services.workers.checking import Checker, told
from services.workers.desk import BaseFacts, GitAnswer, Verdict
from services.workers.failures import as_outcomes
from services.workers.git_reading import read_git
from services.workers.halt import Halt
from services.workers.mutation.trial import MutationTrial, Subject
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.roles.role import Role
from services.workers.setup import Environment, SetupFailed
from services.workers.tools.clip import clip
from services.workers.verification import TestReport
from services.workers.verification.inline_tests import holds_tests, lost_tests
from services.workers.verification.settings import differ, speaks_of_tests
from services.workers.work import TaskWork
from services.workers.workspace import Branch, Worktree

VERIFYING = 80  # progress
_REFUSALS_TOLD = 20
SAID = 4000  # characters of failing tests in a message


class TaskDesk:
    """A Desk on a worktree and the branch that it is pushed to."""

    def __init__(
        self,
        task: TaskWork,
        role: Role,
        base: BaseFacts,
        worktree: Worktree,
        branch: Branch,
        environment: Environment | None,
        checker: Checker,
        broadcast: Broadcast,
        halt: Halt,
        trial: MutationTrial,
    ) -> None:
        self._task = task
        self._role = role
        self._base = base
        self._worktree = worktree
        self._branch = branch
        self._environment = environment
        self._checker = checker
        self._broadcast = broadcast
        self._halt = halt
        self._trial = trial
        self._scope = role.scope(task.may_change, base.files, task.scope, base.verification)

    @property
    def root(self) -> Path:
        """See Workspace."""
        return self._worktree.root

    @property
    def base(self) -> BaseFacts:
        """See Desk."""
        return self._base

    def clock_stopped(self) -> AbstractContextManager[None]:
        """See Desk."""
        return self._halt.clock_stopped()

    async def git(self, *arguments: str) -> GitAnswer:
        """See Workspace."""
        return await read_git(self._worktree, *arguments)

    async def run_tests(self, paths: Sequence[str]) -> str:
        """See Workspace."""
        if self._environment is None:
            return "nothing verifies this task, as its plan says: there are no tests to run"
        with as_outcomes():
            # What a test run leaves behind is not the agent's work, and nothing the agent could undo.
            async with self._worktree.lent():
                return await self._checker.try_out(self._worktree.root, self._environment, paths)

    async def verify(self) -> Verdict:
        """See Desk."""
        await self._broadcast(TaskInProgress(Phase.VERIFYING, VERIFYING))
        with as_outcomes():
            before, commit = self._branch.pushed, await self._branch.save()
            if self._branch.pushed != before:
                await self._broadcast(Activity("git", f"pushed {commit[:12]} to {self._branch.name}"))
            if (refusal := await self._refusal(commit)) is not None:
                await self._broadcast(Activity("verification", refusal.summary))
                return refusal
            if self._task.unverified:
                await self._broadcast(Activity("verification", "UNVERIFIED, as the plan says"))
                return Verdict(True)
            return await self._check(commit)

    async def report_defect(self, tests: Sequence[str], defect: str) -> str:
        """See Tested."""
        if self._task.unverified:
            return "this task has no verification, so no defect can be shown; say what you found as you end"
        await self._broadcast(TaskInProgress(Phase.VERIFYING, VERIFYING))
        with as_outcomes():
            commit = await self._branch.save()
            if (refusal := await self._refusal(commit)) is not None:
                return f"{refusal.summary}\n\n{refusal.text}"
            code = [path for path in await self._changed(commit) if not self._scope.is_test(path)]
            if code:
                changed = ", ".join(code[:10])
                return f"a defect is shown on the base's code, but these files differ from it: {changed}"
            found, said = await self._checker.defect(commit, self._environment_of(), tests)
        if found.tests:
            shown = "\n".join(
                ["", "on the base's code these tests fail:", *found.tests, "", clip(said, SAID)]
            )
            raise AttemptFailed(Outcome.DEFECT_FOUND, f"{defect}\n{shown}".strip())
        await self._broadcast(TaskInProgress(Phase.WORKING, VERIFYING))
        return f"no defect is shown: {found.problem}"

    def _environment_of(self) -> Environment | None:
        """What checks run in; None where the work may change that, and each commit has its own."""
        return None if Protected.DEPENDENCIES in self._task.may_change else self._environment

    async def _check(self, commit: str) -> Verdict:
        environment = self._environment_of()
        tests_may_go = Protected.TESTS in self._task.may_change
        try:
            report, judgement = await self._checker.check(
                commit,
                environment,
                tests_may_go=tests_may_go,
                new_test=self._role.new_tests and not tests_may_go,
            )
        except SetupFailed as error:
            if environment is not None:
                raise
            return Verdict(False, "setup fails with the changed dependencies", clip(str(error)))
        if judgement.green:
            return await self._notice_mutants(commit, report) if self._role.mutations else Verdict(True)
        final = judgement.outcome if judgement.outcome in (Outcome.NO_TESTS, Outcome.SETUP_FAILED) else None
        text = "\n\n".join([judgement.summary, clip(report.output), told(report)])
        return Verdict(False, judgement.summary, text, final)

    async def _notice_mutants(self, commit: str, report: TestReport) -> Verdict:
        """Whether the tests of a green commit notice when the code under test is wrong."""
        changed = await self._changed(commit)
        there = await self._worktree.repository.files(commit)
        tests = tuple(path for path in changed if path in there and self._scope.is_test(path))
        new = self._checker.new_tests(report) | {test for test in report.passed if test.startswith(tests)}
        code = frozenset(path for path in self._base.files if self._scope.is_code(path))
        subject = Subject(commit, tests, code, new)
        check = await self._trial.run(subject, self._environment_of())
        self._checker.keep(check)
        if check.passed:
            return Verdict(True)
        summary = f"no new test fails on any of {len(check.tried)} wrong changes of the code under test"
        shown = [f"- {one.path}:{one.line}: `{one.before}` became `{one.after}`" for one in check.tried]
        text = "They pass, but would pass as well if the code was wrong. Each of these was tried alone:\n"
        return Verdict(False, summary, text + "\n".join(shown))

    async def _changed(self, commit: str) -> list[str]:
        """Paths of the files that differ between the base and a commit."""
        return [
            change.path for change in await self._worktree.repository.changes(self._task.base_commit, commit)
        ]

    async def _refusal(self, commit: str) -> Verdict | None:
        """Why a commit need not be checked: it changes nothing, or what it must not."""
        repository, base = self._worktree.repository, self._task.base_commit
        if await repository.tree(commit) == await repository.tree(base):
            summary = "nothing is changed: the work equals its base"
            return Verdict(False, summary, f"{summary}. Do the task, then end your turn.")
        changed = await self._changed(commit)
        refusals = [said for path in changed if (said := self._scope.refusal(path))]
        refusals += [
            f"{path}: says how tests are run, and says it differently; that part is read-only"
            for path in changed
            if await self._runs_tests_differently(path, commit)
        ]
        refusals += [refusal for path in changed async for refusal in self._lost_tests(path, commit)]
        if not refusals:
            return None
        told = "\n".join(f"- {refusal}" for refusal in refusals[:_REFUSALS_TOLD])
        more = f"\nand {len(refusals) - _REFUSALS_TOLD} more" if len(refusals) > _REFUSALS_TOLD else ""
        text = f"These changes are not allowed; put each file back as it was at the base:\n{told}{more}"
        return Verdict(False, f"{len(refusals)} changed files are outside the write scope", text)

    async def _lost_tests(self, path: str, commit: str) -> AsyncIterator[str]:
        """Refusals for tests of the base in a file of the code that do not stand there as they were."""
        repository, base = self._worktree.repository, self._task.base_commit
        if not holds_tests(path) or not self._scope.protects_tests or self._scope.is_test(path):
            return
        before = await repository.text(base, path)
        for name in lost_tests(before or "", await repository.text(commit, path) or ""):
            yield f"{path}: its test {name}, which the base has, is not there as it was; it is read-only"

    async def _runs_tests_differently(self, path: str, commit: str) -> bool:
        """Whether a file that may change, for the dependencies in it, changes how tests are run as well."""
        if not speaks_of_tests(path) or Protected.CI in self._task.may_change:
            return False
        repository, base = self._worktree.repository, self._task.base_commit
        return differ(path, await repository.text(base, path), await repository.text(commit, path))
