"""A plan: a DAG of tasks, and its rules, which lead, planner and command line share.

Pure, O(tasks + dependencies).
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from codeframe.amounts import read_budget
from codeframe.budget import NO_LIMIT, Budget
from codeframe.v1 import plan_pb2

MAX_TASKS = 10_000
DEFAULT_PRIORITY = 2
UNVERIFIED = "none"
"""A task's `verification` that says that nothing verifies its work."""

PLANNER = "planner"
"""The role that makes plans of goals. No task has it."""


class Protected(enum.Enum):
    """Kinds of files that a role's write scope protects unless the task declares otherwise."""

    DEPENDENCIES = "dependencies"
    TESTS = "tests"
    CI = "ci"


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One node of a plan. An empty `role`, `verification` or `setup` is not decided yet."""

    id: str
    title: str
    description: str = ""
    role: str = ""
    depends_on: tuple[str, ...] = ()
    priority: int = DEFAULT_PRIORITY
    verification: str = ""
    setup: str = ""
    model: str = ""
    may_change: frozenset[Protected] = frozenset()
    budget: Budget = NO_LIMIT

    @property
    def unverified(self) -> bool:
        """Whether nothing verifies its work."""
        return self.verification == UNVERIFIED


@dataclass(frozen=True, slots=True)
class Plan:
    """A DAG of coding tasks, in plan order."""

    title: str
    tasks: tuple[PlannedTask, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class PlanFault:
    """One thing that is wrong with a plan: the field's path and what to mend."""

    path: str
    message: str


def read_plan(told: plan_pb2.Plan) -> Plan:
    """A plan as the API has it."""
    tasks = tuple(
        PlannedTask(
            id=task.id,
            title=task.title,
            description=task.description,
            role=task.role,
            depends_on=tuple(task.depends_on),
            priority=task.priority if task.HasField("priority") else DEFAULT_PRIORITY,
            verification=task.verification,
            setup=task.setup,
            model=task.model,
            may_change=frozenset(
                Protected[plan_pb2.ProtectedKind.Name(kind).removeprefix("PROTECTED_KIND_")]
                for kind in task.may_change
            ),
            budget=read_budget(task.budget),
        )
        for task in told.tasks
    )
    return Plan(told.title, tasks)


def faults(plan: Plan) -> list[PlanFault]:
    """Everything that is wrong with a plan; an empty list where nothing is.

    Finds an empty or oversized plan, duplicate ids, unknown and self dependencies, and
    cycles, each named by its tasks (`a → b → a`).
    """
    if not plan.tasks:
        return [PlanFault("plan.tasks", "the plan has no tasks; add at least one")]
    if len(plan.tasks) > MAX_TASKS:
        return [PlanFault("plan.tasks", f"{len(plan.tasks)} tasks; a plan has at most {MAX_TASKS}")]
    found = list(_bad_references(plan.tasks))
    if not found:
        found = [
            PlanFault("plan.tasks", f"the tasks depend on each other in a cycle: {' → '.join(cycle)}")
            for cycle in cycles({task.id: task.depends_on for task in plan.tasks})
        ]
    return found


def _bad_references(tasks: Sequence[PlannedTask]) -> Iterator[PlanFault]:
    first: dict[str, int] = {}
    for index, task in enumerate(tasks):
        if not task.title.strip():
            yield PlanFault(f"plan.tasks[{index}].title", f"task {task.id!r} has no title")
        if task.role == PLANNER:
            what = f"the role {PLANNER} makes plans; give the task another"
            yield PlanFault(f"plan.tasks[{index}].role", what)
        if task.id in first:
            yield PlanFault(
                f"plan.tasks[{index}].id",
                f"the id {task.id!r} is taken by tasks[{first[task.id]}]; ids are unique in a plan",
            )
        first.setdefault(task.id, index)
    for index, task in enumerate(tasks):
        for place, dependency in enumerate(task.depends_on):
            path = f"plan.tasks[{index}].depends_on[{place}]"
            if dependency == task.id:
                yield PlanFault(path, f"task {task.id!r} depends on itself")
            elif dependency not in first:
                yield PlanFault(path, f"task {task.id!r} depends on {dependency!r}, which no task is called")


def cycles(depends_on: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """One cycle, as ids that start and end with the same one, for each knot of the graph.

    Depth first without recursion: white, on the path, done.
    """
    found: list[list[str]] = []
    done: set[str] = set()
    for root in depends_on:
        if root in done:
            continue
        path: dict[str, None] = {root: None}
        stack = [(root, iter(depends_on[root]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                del path[node]
                done.add(node)
            elif following in path:
                ids = list(path)
                found.append([*ids[ids.index(following) :], following])
            elif following not in done:
                path[following] = None
                stack.append((following, iter(depends_on[following])))
    return found
