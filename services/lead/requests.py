"""A placement as the request that its worker gets. Built once, journaled, and repeated byte for byte."""

from google.protobuf import json_format

from codeframe.plan import PLANNER, Protected
from codeframe.v1 import evidence_pb2, plan_pb2, worker_pb2
from services.lead.artifacts import ArtifactStore
from services.lead.assignment import WORDS
from services.lead.integrator import attempt_branch, candidate_branch, head_branch
from services.lead.machine.attempt import AttemptKind, Binding
from services.lead.machine.run import Run
from services.lead.machine.state import Check
from services.lead.machine.wanted import Placement
from services.lead.previous_attempt import previous_attempt
from services.lead.public import allowance_to_proto, outcome_to_proto

TEST_REPORT = "test-report"


class Requests:
    """Builds requests; the baseline of a check is read once for each report."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._baselines: dict[str, worker_pb2.Baseline] = {}

    async def build(self, run: Run, wanted: Placement, binding: Binding, roles: frozenset[str]) -> bytes:
        """The ExecuteTask request of a placement, for the worker it got. `roles` are those of the fleet."""
        facts = run.facts
        request = worker_pb2.ExecuteTaskRequest(
            attempt_id=wanted.attempt_id,
            incarnation=binding.incarnation,
            run_id=facts.run_id,
            role=wanted.role,
            repository=facts.repository,
            run_base_commit=facts.base,
            limits=worker_pb2.AttemptLimits(turns=facts.limits.turns, corrections=facts.limits.corrections),
        )
        request.limits.attempt_timeout.FromTimedelta(facts.limits.attempt_timeout)
        request.limits.test_timeout.FromTimedelta(facts.limits.test_timeout)
        if wanted.allowance.limited:
            request.limits.allowance.CopyFrom(allowance_to_proto(wanted.allowance))
        if wanted.kind is AttemptKind.PLAN:
            request.plan.CopyFrom(_plan(run, wanted, roles))
            return request.SerializeToString(deterministic=True)
        if wanted.check is not None:
            request.checks.CopyFrom(await self._checks(run.core.checks[wanted.check]))
        if wanted.kind is AttemptKind.VERIFY:
            candidate = run.core.candidate
            branch = (
                candidate_branch(facts.run_id, candidate.number) if candidate else head_branch(facts.run_id)
            )
            request.verify.commit, request.verify.branch = wanted.commit, branch
            if candidate:
                await self._let_go(run, request.checks.baseline)
        else:
            request.task.CopyFrom(_task(run, wanted))
            if wanted.previous:
                excused = request.checks.baseline.red_tests
                told = await previous_attempt(self._artifacts, wanted.previous, excused)
                request.task.previous.CopyFrom(told)
        return request.SerializeToString(deterministic=True)

    async def _checks(self, check: Check) -> worker_pb2.Checks:
        checks = worker_pb2.Checks(
            verification=check.verification,
            report=check.report,
            setup=check.setup,
            setup_paths=check.setup_paths,
        )
        if check.report_attempt:
            checks.baseline.CopyFrom(await self._baseline(check.report_attempt))
            checks.baseline.SetInParent()
        return checks

    async def _baseline(self, attempt_id: str) -> worker_pb2.Baseline:
        """What passed, was red and steered in an attempt's test report; nothing where it had none."""
        if attempt_id not in self._baselines:
            report = await self._report(attempt_id)
            baseline = worker_pb2.Baseline(steering=report.steering)
            for test in report.tests:
                if test.state == evidence_pb2.TEST_STATE_PASSED:
                    baseline.passing_tests.append(test.id)
                elif test.state in (evidence_pb2.TEST_STATE_FAILED, evidence_pb2.TEST_STATE_ERROR):
                    baseline.red_tests.append(test.id)
            self._baselines[attempt_id] = baseline
        return self._baselines[attempt_id]

    async def _report(self, attempt_id: str) -> evidence_pb2.TestReport:
        data = await self._artifacts.read_whole(attempt_id, TEST_REPORT)
        if data is None:
            return evidence_pb2.TestReport()
        return json_format.Parse(data, evidence_pb2.TestReport(), ignore_unknown_fields=True)

    async def _let_go(self, run: Run, baseline: worker_pb2.Baseline) -> None:
        """Take from a candidate's baseline what tasks in it declare to change: tests that are gone with
        their work, and what steers the tests with it."""
        gone: set[str] = set()
        for task_id in run.core.candidate.tasks if run.core.candidate else ():
            task = run.tasks[task_id]
            if Protected.TESTS in task.spec.may_change and task.own:
                report = await self._report(task.own.attempt_id)
                gone.update(report.gone_tests)
                baseline.steering.extend(report.steering)
        if gone:
            kept = [test for test in baseline.passing_tests if test not in gone]
            baseline.ClearField("passing_tests")
            baseline.passing_tests.extend(kept)


def _plan(run: Run, wanted: Placement, roles: frozenset[str]) -> worker_pb2.PlanWork:
    work = worker_pb2.PlanWork(
        goal=run.facts.goal,
        base_commit=wanted.base,
        roles=sorted(roles - {PLANNER}) or sorted(WORDS),
        number=wanted.number,
        model=run.facts.planner_model,
    )
    if wanted.previous:
        work.previous.outcome = outcome_to_proto(wanted.previous.outcome)
        work.previous.message = wanted.previous.message
    return work


def _task(run: Run, wanted: Placement) -> worker_pb2.TaskWork:
    spec = run.tasks[wanted.task_id].spec
    work = worker_pb2.TaskWork(
        task_id=spec.id,
        title=spec.title,
        description=spec.description,
        number=wanted.number,
        base_commit=wanted.base,
        start_commit=wanted.start,
        branch=attempt_branch(run.facts.run_id, spec.id, wanted.number),
        model=spec.model,
        unverified=spec.unverified,
        may_change=[
            plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind.name}")
            for kind in sorted(spec.may_change, key=lambda kind: kind.name)
        ],
    )
    if scope := run.facts.scopes.get(wanted.role):
        work.scope.allow.extend(scope.allow)
        work.scope.deny.extend(scope.deny)
    return work
