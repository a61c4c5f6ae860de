"""A plan file: what it says, and where it is wrong."""

import pytest

from codeframe.planfile import PlanFileError, read_plan
from codeframe.v1 import plan_pb2

WHOLE = """\
title: Orders
tasks:
  - id: "1.5"
    title: The API
    description: |
      Serve orders.
      Latest first.
    role: backend
    depends_on: [1.5.1, base]
    priority: 0
    verification: python -m pytest
    setup: pip install -e .
    model: claude-x
    may_change: [dependencies, tests, ci]
  - {id: 1.5.1, title: T, description: ""}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(PlanFileError) as raised:
        read_plan(text, "plan.yaml")
    assert str(raised.value) == "\n".join(raised.value.problems)
    return raised.value.problems


def test_every_key_arrives() -> None:
    plan = read_plan(WHOLE, "plan.yaml").plan
    assert plan.title == "Orders"
    assert plan.tasks[0] == plan_pb2.PlannedTask(
        id="1.5",
        title="The API",
        description="Serve orders.\nLatest first.\n",
        role="backend",
        depends_on=["1.5.1", "base"],
        priority=0,
        verification="python -m pytest",
        setup="pip install -e .",
        model="claude-x",
        may_change=[
            plan_pb2.PROTECTED_KIND_DEPENDENCIES,
            plan_pb2.PROTECTED_KIND_TESTS,
            plan_pb2.PROTECTED_KIND_CI,
        ],
    )
    assert plan.tasks[1].id == "1.5.1"
    assert not plan.tasks[1].HasField("priority")


def test_a_path_has_a_place_in_the_file() -> None:
    plan = read_plan(WHOLE, "dir/plan.yaml")
    assert plan.where("tasks[0].depends_on[1]") == "dir/plan.yaml:9:25"
    assert plan.where("tasks[0].depends_on[7]") == "dir/plan.yaml:9:17"
    assert plan.where("tasks[1].priority") == "dir/plan.yaml:15:5"
    assert plan.where("title") == "dir/plan.yaml:1:8"
    assert plan.where("") == "dir/plan.yaml:1:1"
    assert plan.where("nothing.like[3].it") == "dir/plan.yaml:1:1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "plan.yaml:1:1: the file is empty; a plan has a title and tasks"),
        ("- 1", "plan.yaml:1:1: must be a mapping, not a list"),
        ("title: T", "plan.yaml:1:1: tasks: is missing"),
        ("tasks: []", "plan.yaml:1:1: title: is missing"),
        ("title: T\ntasks: {}", "plan.yaml:2:8: tasks: must be a list, not a mapping"),
        ("title: T\ntasks: [1]", "plan.yaml:2:9: tasks[0]: must be a mapping, not a number"),
        ("title: T\ntitle: U\ntasks: []", "plan.yaml:2:1: title: stands here twice; first at line 1"),
        ("title: T\ntasks: []\ngoal: x", "plan.yaml:3:1: goal: unknown key; known here: tasks, title"),
        ("title: [T\ntasks: []", "plan.yaml:2:6: did not find expected ',' or ']'"),
        ("a: b: c", "plan.yaml:1:5: mapping values are not allowed in this context"),
        ("--- 1\n--- 2", "plan.yaml:2:1: but found another document"),
    ],
)
def test_an_error_names_file_line_column_and_path(text: str, problem: str) -> None:
    assert problems(text) == [problem]


PRIORITY = "must be a number from 0 (first) to 4 (last)"


@pytest.mark.parametrize(
    ("line", "column", "path", "what"),
    [
        ("priority: 5", 13, "priority", PRIORITY),
        ("priority: '1'", 13, "priority", PRIORITY),
        ("priority: 01", 13, "priority", PRIORITY),
        ("depends_on: b", 15, "depends_on", "must be a list, not text"),
        (
            "depends_on: [b, 1.5]",
            19,
            "depends_on[1]",
            'must be text; YAML takes 1.5 for a number, so quote it: "1.5"',
        ),
        ("model: no", 10, "model", 'must be text; YAML takes no for true or false, so quote it: "no"'),
        ("setup:", 9, "setup", "must be text, not empty"),
        ("role: [a]", 9, "role", "must be text, not a list"),
        ("may_change: [all]", 16, "may_change[0]", "must be one of dependencies, tests, ci"),
        ("title: B", 3, "title", "stands here twice; first at line 4"),
    ],
)
def test_an_error_in_a_task(line: str, column: int, path: str, what: str) -> None:
    text = f"title: T\ntasks:\n- id: a\n  title: A\n  description: D\n  {line}\n"
    assert problems(text) == [f"plan.yaml:6:{column}: tasks[0].{path}: {what}"]


def test_a_control_character_is_an_error() -> None:
    assert problems("title: \x01")[0].startswith("plan.yaml:1:1: ")


def test_an_alias_that_holds_itself_is_an_error() -> None:
    assert problems("title: T\ntasks: &all\n- *all")[0].startswith(
        "plan.yaml:2:8: tasks[0]: must be a mapping"
    )


def test_brackets_without_end_are_an_error() -> None:
    assert len(problems("[" * 5000)) == 1


def test_all_faults_are_told_in_order_up_to_twenty() -> None:
    found = problems("title: T\ntasks:\n" + "- {id: 1, title: 2, nope: 3}\n" * 50)
    assert len(found) == 20
    assert found[0].startswith("plan.yaml:3:3: tasks[0].description: is missing")
    assert found[1].startswith("plan.yaml:3:8: tasks[0].id: must be text")


def test_ten_thousand_tasks_are_read_in_moments() -> None:
    tasks = "".join(f"- id: t{n}\n  title: Task {n}\n  description: Do it\n" for n in range(10_000))
    plan = read_plan(f"title: Big\ntasks:\n{tasks}", "plan.yaml")
    assert len(plan.plan.tasks) == 10_000
    assert plan.where("tasks[9999].title") == "plan.yaml:30001:10"


def test_a_plan_that_no_request_carries_is_an_error() -> None:
    text = f"title: T\ntasks:\n- {{id: a, title: A, description: {'x' * (16 * 1024**2 + 1)}}}\n"
    assert problems(text) == ["plan.yaml:1:1: the plan is larger than 16 MiB"]
