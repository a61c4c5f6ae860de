"""What a CreateRun request and the base's tree make of a run: the plan judged, roles and checks decided.

Pure; the integrator reads the tree. Raises the errors that CreateRun answers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from codeframe.amounts import read_budget
from codeframe.errors import Violation
from codeframe.finders import find_report, find_verification
from codeframe.plan import PLANNER, Plan, PlannedTask, faults, read_plan
from codeframe.project import PROJECT_FILE, ProjectFile, ProjectFileError, read_project
from codeframe.v1 import lead_pb2, plan_pb2
from services.lead.assignment import assign_role
from services.lead.machine.private_records import RunCreated
from services.lead.machine.state import Check, RoleScope, RunFacts, RunLimits
from services.lead.tree import Tree
from services.runtime.errors import InvalidArgument

_TITLE_LIMIT = 200


def check_request(request: lead_pb2.CreateRunRequest) -> Plan | None:
    """The plan of a request; None where it has a goal instead.

    Raises InvalidArgument: INVALID_PLAN, naming each fault by its field; INVALID_REPOSITORY for a
    relative path, which workers would look for elsewhere; INVALID_REQUEST for a goal of blanks.
    """
    if ":" not in request.repository and not request.repository.startswith("/"):
        text = f"{request.repository} is a relative path; give an absolute one, or a URL"
        raise InvalidArgument("INVALID_REPOSITORY", text, violations=[Violation("repository", text)])
    if request.HasField("plan"):
        return judged(request.plan)
    if not request.goal.strip():
        text = "is blank; say what is to be reached"
        raise InvalidArgument("INVALID_REQUEST", f"goal: {text}", violations=[Violation("goal", text)])
    return None


def judged(told: plan_pb2.Plan) -> Plan:
    """A plan, with a role for each task. Raises InvalidArgument: INVALID_PLAN, naming each fault."""
    plan = read_plan(told)
    tasks = (
        replace(task, role=task.role or assign_role(task.title, task.description)) for task in plan.tasks
    )
    plan = replace(plan, tasks=tuple(tasks))
    found = faults(plan)
    if found:
        violations = [Violation(fault.path, fault.message) for fault in found[:100]]
        shown = "; ".join(fault.message for fault in found[:3])
        raise InvalidArgument("INVALID_PLAN", f"the plan cannot run: {shown}", violations=violations)
    return plan


def create_run(
    request: lead_pb2.CreateRunRequest,
    plan: Plan | None,
    tree: Tree,
    *,
    run_id: str,
    base: str,
    branch: str,
    now: datetime,
) -> RunCreated:
    """The record that a run begins with; without a plan, a plan is made of the request's goal first.

    Raises InvalidArgument: INVALID_REQUEST for a codeframe.toml that cannot be used,
    NO_VERIFICATION where neither plan nor base says how a task is verified.
    """
    project = _project_file(tree)
    made = _decided(plan, project, tree) if plan else Decided((), (), {})
    return RunCreated(
        facts=RunFacts(
            run_id=run_id,
            project=project_name(request),
            request_id=request.request_id,
            title=plan.title if plan else _first_line(request.goal),
            repository=request.repository,
            base=base,
            branch=branch,
            limits=_limits(request.limits, project),
            create_time=now,
            labels=dict(request.labels),
            fail_unserved=request.unserved_role == lead_pb2.UNSERVED_ROLE_POLICY_FAIL,
            scopes={
                name: RoleScope(role.allow, role.deny)
                for name, role in project.roles.items()
                if role.allow or role.deny
            },
            goal=request.goal,
            planner_model=project.of(PLANNER).model,
            budget=read_budget(request.budget),
        ),
        tasks=made.tasks,
        checks=made.checks,
        check_of=made.check_of,
    )


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan's tasks on a base, each with its role and model; their checks, and which of them each has."""

    tasks: tuple[PlannedTask, ...]
    checks: tuple[Check, ...]
    check_of: Mapping[str, int]


def decide_plan(plan: Plan, tree: Tree) -> Decided:
    """What the base says of how a plan's tasks are done. Raises InvalidArgument as `create_run` does."""
    return _decided(plan, _project_file(tree), tree)


def _decided(plan: Plan, project: ProjectFile, tree: Tree) -> Decided:
    tasks = tuple(replace(task, model=task.model or project.of(task.role).model) for task in plan.tasks)
    return Decided(tasks, *_checks(plan, project, tree))


def _first_line(goal: str) -> str:
    line = goal.strip().splitlines()[0].rstrip()
    return line if len(line) <= _TITLE_LIMIT else f"{line[: _TITLE_LIMIT - 1]}…"


def project_name(request: lead_pb2.CreateRunRequest) -> str:
    """The request's project, else the repository's last path part, less ".git"."""
    last = re.split("[/:]", request.repository.rstrip("/"))[-1].removesuffix(".git")
    allowed = re.sub("[^A-Za-z0-9._-]", "-", last)[:100]
    return request.project or allowed or "repository"


def _project_file(tree: Tree) -> ProjectFile:
    text = tree.read(PROJECT_FILE) if PROJECT_FILE in tree.paths else None
    try:
        return read_project(text) if text is not None else ProjectFile()
    except ProjectFileError as error:
        text = f"{error}\nthe base's own file counts: mend it and commit, or choose another base"
        message = f"the base has a file that cannot be used:\n{text}"
        raise InvalidArgument(
            "INVALID_REPOSITORY", message, violations=[Violation("repository", text)]
        ) from None


def _checks(plan: Plan, project: ProjectFile, tree: Tree) -> tuple[tuple[Check, ...], dict[str, int]]:
    """The distinct checks of a plan, each on a worker of the first role that brings it, by task."""
    known: dict[tuple[str, str, str, tuple[str, ...]], Check] = {}
    check_of: dict[str, int] = {}
    missing: list[Violation] = []
    roles = {task.role for task in plan.tasks}
    found = {role: find_verification(tree.paths, tree.read, role) or "" for role in roles}
    for index, task in enumerate(plan.tasks):
        if task.unverified:
            continue
        named = project.of(task.role)
        verification = task.verification or named.verification or found[task.role]
        if not verification:
            text = (
                f"task {task.id!r} has no verification, and the base has none that could be found: "
                f"name the command there, or in {PROJECT_FILE} and commit that"
            )
            missing.append(Violation(f"plan.tasks[{index}].verification", text))
            continue
        own = task.verification and task.verification != named.verification
        report = ("" if own else named.report) or find_report(tree.paths, tree.read, verification)
        setup, setup_paths = task.setup or named.setup, () if task.setup else named.setup_paths
        check = known.setdefault(
            (verification, report, setup, setup_paths),
            Check(
                key=len(known),
                role=task.role,
                verification=verification,
                report=report,
                setup=setup,
                setup_paths=setup_paths,
            ),
        )
        check_of[task.id] = check.key
    if missing:
        message = f"{missing[0].message}; name one in the plan, or in codeframe.toml under [verification]"
        raise InvalidArgument("NO_VERIFICATION", message, violations=missing[:100])
    return tuple(known.values()), check_of


def _limits(asked: lead_pb2.RunLimits, project: ProjectFile) -> RunLimits:
    """The defaults, but for what the request says; a test run's time may come from codeframe.toml."""
    limits = RunLimits() if project.timeout is None else replace(RunLimits(), test_timeout=project.timeout)
    changes: dict[str, Any] = {}
    for field in fields(RunLimits):
        if asked.HasField(field.name):  # type: ignore[arg-type]  # each is a field of the proto too
            value: Any = getattr(asked, field.name)
            is_duration = isinstance(getattr(limits, field.name), timedelta)
            changes[field.name] = value.ToTimedelta() if is_duration else value
    return replace(limits, **changes)
