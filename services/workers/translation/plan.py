"""A plan as the API has it."""

from codeframe.plan import Plan
from codeframe.v1 import plan_pb2


def write_plan(plan: Plan) -> plan_pb2.Plan:
    """A plan as the API has it."""
    tasks = [
        plan_pb2.PlannedTask(
            id=task.id,
            title=task.title,
            description=task.description,
            role=task.role,
            depends_on=task.depends_on,
            priority=task.priority,
            verification=task.verification,
            may_change=sorted(
                plan_pb2.ProtectedKind.Value(f"PROTECTED_KIND_{kind.name}") for kind in task.may_change
            ),
        )
        for task in plan.tasks
    ]
    return plan_pb2.Plan(title=plan.title, tasks=tasks)
