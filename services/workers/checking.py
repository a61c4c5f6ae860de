"""An attempt's checks: a checkout made able to run them, and a commit run through them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from services.workers.broadcast import Activity, TestsRan
from services.workers.clock import Clock
from services.workers.evidence import AttemptLog, Evidence
from services.workers.outcome import Outcome
from services.workers.sandbox import Sandbox
from services.workers.setup import Environment, Setup, SetupFailed
from services.workers.tools.clip import clip
from services.workers.translation import write_report
from services.workers.verification import Judgement, TestReport, defect_of, judge, narrowed, verify
from services.workers.verification.defect import Defect
from services.workers.work import AttemptRequest, Baseline, MutationCheck, VerificationRun
from services.workers.workspace import DataFolder, Repository

RED_TESTS_TOLD = 50
RED_TESTS_CHARACTERS = 4000
SUMMARY_LIMIT = 4000  # characters


class Checker:
    """Runs one attempt's checks, one at a time. Whatever it starts is dead when it returns or raises."""

    def __init__(
        self,
        data: DataFolder,
        sandbox: Sandbox,
        setup: Setup,
        clock: Clock,
        request: AttemptRequest,
        repository: Repository,
        evidence: Evidence,
        tell: AttemptLog,
    ) -> None:
        self._data = data
        self._sandbox = sandbox
        self._setup = setup
        self._clock = clock
        self._request = request
        self._repository = repository
        self._evidence = evidence
        self._tell = tell
        self._checkouts = 0

    async def prepare(self, tree: Path) -> Environment:
        """What setup makes of a checkout. Raises SetupFailed."""
        checks, started = self._request.checks, self._clock.monotonic()
        await self._tell(Activity("setup", "makes the environment that the checks run in, or finds it made"))
        try:
            environment = await self._setup.prepare(
                tree,
                verification=checks.verification,
                command=checks.setup,
                paths=checks.setup_paths,
                repository=self._request.repository,
            )
        except SetupFailed as error:
            self._tell.add(f"setup failed: {error.reason}\n$ {error.command}\n{error.output}")
            raise
        await self._tell(Activity("setup", f"ready after {self._clock.monotonic() - started:.1f} s"))
        return environment

    async def prepare_commit(self, commit: str) -> Environment:
        """What setup makes of a commit. Raises SetupFailed, GitError."""
        async with self.checkout(commit) as tree:
            return await self.prepare(tree)

    async def try_out(self, tree: Path, environment: Environment, paths: Sequence[str]) -> str:
        """Run the verification command on a worktree as it is; what it printed, and what came of it.

        Raises SandboxError.
        """
        command = self._request.checks.verification
        narrow = narrowed(command, paths, tree)
        report = await self.run(tree, environment, narrow or command)
        notes = ["the command cannot be narrowed: these are all tests"] if paths and not narrow else []
        return "\n".join([clip(report.output), *notes, told(report)])

    async def check(
        self,
        commit: str,
        environment: Environment | None,
        *,
        tests_may_go: bool = False,
        new_test: bool = False,
    ) -> tuple[TestReport, Judgement]:
        """Run the verification command on a fresh checkout of a commit, and judge what it reports.

        With no environment, the commit's own is made. Where `new_test`, a test must pass that nothing was
        known of. Broadcasts TestsRan, and keeps the report and the run as evidence. Raises AttemptFailed,
        SetupFailed, SandboxError, GitError.
        """
        checks = self._request.checks
        async with self.checkout(commit) as tree:
            environment = environment or await self.prepare(tree)
            await self._tell(Activity("verification", f"runs {checks.verification} on {commit[:12]}"))
            report = await self.run(tree, environment, checks.verification)
        judgement = judge(report, checks.baseline, tests_may_go=tests_may_go)
        if new_test and judgement.green and checks.baseline and not new_tests(report, checks.baseline):
            summary = "no new test: the work must add at least one test that passes"
            judgement = replace(judgement, outcome=Outcome.VERIFICATION_FAILED, summary=summary)
        self._tell.add(f"$ {report.command}\n{report.output}\n{told(report)}\n{judgement.summary}")
        self._evidence.verifications.append(verification_run(report, judgement, commit))
        self._evidence.keep_report(await write_report(report, commit, judgement.gone))
        await self._tell(
            TestsRan(
                passed=len(report.passed),
                failed=len(report.failed),
                errors=len(report.errors),
                skipped=len(report.skipped),
                duration=timedelta(seconds=report.duration),
                green=judgement.green,
            )
        )
        return report, judgement

    async def defect(
        self, commit: str, environment: Environment | None, tests: Sequence[str]
    ) -> tuple[Defect, str]:
        """Whether these tests run and fail on a fresh checkout of a commit, twice; and what they said.

        Keeps the report and the run as evidence, as `check` does. Raises as `check` does.
        """
        report, _ = await self.check(commit, environment)
        found = defect_of(report, self._request.checks.baseline, tests)
        if found.tests:
            report, _ = await self.check(commit, environment)
            again = defect_of(report, self._request.checks.baseline, tests)
            if again.problem:
                found = Defect(problem=f"they failed once, and not again: {again.problem}")
        said = {test.id: test.message for test in report.tests}
        return found, "\n\n".join(f"{test}\n{said[test]}" for test in found.tests)

    def new_tests(self, report: TestReport) -> frozenset[str]:
        """Ids of the tests that pass, and that nothing was known of."""
        return new_tests(report, self._request.checks.baseline or Baseline())

    def keep(self, check: MutationCheck) -> None:
        """Keep what came of mutants as evidence."""
        self._evidence.mutation_check = check

    @property
    def command(self) -> str:
        """The verification command."""
        return self._request.checks.verification

    async def run(self, tree: Path, environment: Environment, command: str) -> TestReport:
        """Run a command as the verification is run, on a tree as it is. Raises SandboxError."""
        request = self._request
        timeout = request.limits.test_timeout.total_seconds()
        return await verify(
            self._sandbox, environment, tree, command, report=request.checks.report, timeout=timeout
        )

    @asynccontextmanager
    async def checkout(self, commit: str) -> AsyncIterator[Path]:
        """A fresh checkout of a commit, removed afterwards. Raises GitError."""
        self._checkouts += 1
        root = self._data.attempt(self._request.attempt_id) / f"check-{self._checkouts}"
        try:
            await self._data.worktree(self._repository, root).check_out(commit)
            yield root
        finally:
            await self._data.remove(root)


def new_tests(report: TestReport, baseline: Baseline) -> frozenset[str]:
    """Ids of the tests that pass, and that nothing was known of."""
    return frozenset(report.passed) - baseline.passing - baseline.red


def told(report: TestReport) -> str:
    """What came of a run, in a line."""
    counts = {
        "passed": report.passed,
        "failed": report.failed,
        "errors": report.errors,
        "skipped": report.skipped,
    }
    tests = ", ".join(f"{len(tests)} {name}" for name, tests in counts.items() if tests) or "no test ran"
    if report.timed_out:
        return f"killed after {report.duration:.0f} s; {tests}"
    if report.exceeded:
        return f"killed: it needed more {report.exceeded} than it may have; {tests}"
    return f"exit code {report.exit_code}; {tests}"


def _told_red(tests: Sequence[str]) -> tuple[str, ...]:
    """The first of the tests that make it red; all are in the report."""
    told: list[str] = []
    left = RED_TESTS_CHARACTERS
    for test in tests[:RED_TESTS_TOLD]:
        left -= len(test)
        if left < 0:
            break
        told.append(test)
    return tuple(told)


def verification_run(report: TestReport, judgement: Judgement, commit: str) -> VerificationRun:
    """The record of a run."""
    was_killed = report.timed_out or bool(report.exceeded)
    return VerificationRun(
        command=report.command,
        commit=commit,
        exit_code=None if was_killed else report.exit_code,
        green=judgement.green,
        summary=judgement.summary[:SUMMARY_LIMIT],
        passed=len(report.passed),
        failed=len(report.failed),
        errors=len(report.errors),
        skipped=len(report.skipped),
        red_tests=_told_red(judgement.red),
        report_digest=report.digest,
        duration=timedelta(seconds=report.duration),
        sandbox_mode=report.mode,
        timed_out=report.timed_out,
        collected=len(report.tests),
    )
