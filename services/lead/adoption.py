"""The plan that a planning attempt made, judged once more: a worker's word is no evidence."""

from google.protobuf import json_format

from codeframe.v1 import plan_pb2
from services.lead.creation import decide_plan, judged
from services.lead.machine.happenings import Ended, Planned
from services.lead.tree import Tree
from services.runtime.errors import InvalidArgument
from services.runtime.validation import violations

PLAN = "plan"
"""The artifact that holds it, a Plan as ProtoJSON."""

SIZE_LIMIT = 1 << 20
"""Bytes that it may have."""


class PlanRefused(Exception):
    """The attempt's plan cannot be run; the message says what to mend."""


def adopted(ended: Ended, data: bytes | None, tree: Tree, served: frozenset[str]) -> Planned:
    """The plan of an attempt, with its roles and checks decided on the base's tree. Raises PlanRefused."""
    held = next((each for each in ended.artifacts if each.name == PLAN), None)
    if held is None or data is None:
        raise PlanRefused("the attempt says that it made a plan, and has none")
    told = _parsed(data)
    try:
        plan = judged(told)
        if unverified := [task.id for task in plan.tasks if task.unverified]:
            raise PlanRefused(f"only people may say that nothing verifies a task: {unverified[0]}")
        made = decide_plan(plan, tree)
    except InvalidArgument as error:
        found = "\n".join(f"{each.field}: {each.message}" for each in error.violations)
        raise PlanRefused(f"the plan cannot be run:\n{found or error.message}") from None
    return Planned(ended, plan.title, made.tasks, made.checks, made.check_of, held, served)


def _parsed(data: bytes) -> plan_pb2.Plan:
    if len(data) > SIZE_LIMIT:
        raise PlanRefused(f"the plan has {len(data)} bytes, over {SIZE_LIMIT}; make fewer or shorter tasks")
    try:
        plan = json_format.Parse(data, plan_pb2.Plan())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise PlanRefused(f"the plan is not a Plan as ProtoJSON: {error}") from None
    if found := violations(plan):
        faults = "\n".join(f"plan.{each.field}: {each.message}" for each in found[:20])
        raise PlanRefused(f"the plan cannot be run:\n{faults}")
    return plan
