"""The planner's tool: propose_plan."""

from typing import Protocol, runtime_checkable

from codeframe.plan import DEFAULT_PRIORITY, Plan, PlannedTask, Protected
from services.workers.desk import Workspace
from services.workers.tools.schema import (
    INTEGER,
    STRING,
    STRINGS,
    Input,
    described,
    list_of,
    object_of,
    one_of,
)
from services.workers.tools.tool import Tool, ToolError


@runtime_checkable
class Planned(Protocol):
    """A workspace in which a plan is made."""

    def propose(self, plan: Plan) -> None:
        """Take a plan, in place of the one before. It is judged when the turn ends."""
        ...


async def _propose_plan(workspace: Workspace, given: Input) -> str:
    if not isinstance(workspace, Planned):
        raise ToolError("no plan is asked for here")
    tasks = tuple(_task(task) for task in given.objects("tasks"))
    workspace.propose(Plan(given.text("title"), tasks))
    return f"{len(tasks)} tasks are proposed. End your turn to have the plan judged."


def _task(given: Input) -> PlannedTask:
    priority = given.number("priority")
    return PlannedTask(
        id=given.text("id"),
        title=given.text("title"),
        description=given.text("description"),
        role=given.text("role"),
        depends_on=given.texts("depends_on"),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        verification=given.text("verification"),
        may_change=frozenset(Protected(kind) for kind in given.texts("may_change")),
    )


_TASK = object_of(
    {
        "id": described(
            STRING, "Short and unique in the plan: letters, digits, dots, hyphens; such as 'api'."
        ),
        "title": described(STRING, "One line, 200 characters at most, which becomes the commit's subject."),
        "description": described(STRING, "What is to hold when it is done; all that its doer will know."),
        "role": described(STRING, "Who does it: one of the roles that you were told."),
        "depends_on": described(STRINGS, "Ids of the tasks that must be done and merged before it starts."),
        "priority": described(INTEGER, "Among tasks that may start: 0 first, 4 last. Default: 2."),
        "verification": described(
            STRING, "The command that runs its tests from the repository's root. Default: the base's."
        ),
        "may_change": described(
            list_of(one_of(*(kind.value for kind in Protected))),
            "What it must change that roles may not: dependencies (manifests and lock files), tests that are "
            "there now, ci (configuration of builds and checks). Default: nothing.",
        ),
    },
    optional=("priority", "verification", "may_change"),
)

PROPOSE_PLAN = Tool(
    name="propose_plan",
    description="Propose the plan, in place of one proposed before. It is judged as your turn ends.",
    schema=object_of(
        {
            "title": described(STRING, "A line that says what the plan reaches, 200 characters at most."),
            "tasks": described(list_of(_TASK), "The tasks, in the order in which you would do them."),
        }
    ),
    targets=lambda _, given: (),
    run=_propose_plan,
)
