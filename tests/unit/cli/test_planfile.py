"""A plan file: what it says, and where it is wrong."""

import json
from pathlib import Path

import pytest
import yaml
from google.protobuf.duration_pb2 import Duration

from codeframe import planfile
from codeframe.planfile import PlanFileError, plan_text, read_plan
from codeframe.v1 import budget_pb2, plan_pb2
from services.runtime.validation import violations
from tests.json_schema import schema_faults

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
    budget: {tokens: 2000000, dollars: 2.50, turns: 40, time: 90m}
  - {id: 1.5.1, title: T, description: ""}
  - {id: base, title: T, description: ""}
"""
SCHEMA = json.loads((Path(planfile.__file__).parent / "schema" / "plan.schema.json").read_text())


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
        budget=budget_pb2.Budget(
            tokens=2_000_000, cost_micros=2_500_000, turns=40, wall_time=Duration(seconds=5400)
        ),
    )
    assert plan.tasks[1].id == "1.5.1"
    assert not plan.tasks[1].HasField("priority")


@pytest.mark.parametrize(
    "text", [WHOLE, "title: 'no: 1'\ntasks:\n- {id: a, title: '#', description: 'ä\n\n b '}"]
)
def test_what_is_written_is_read_again(text: str) -> None:
    plan = read_plan(text, "plan.yaml").plan
    plan.tasks[0].ClearField("budget")
    written = plan_text(plan)
    assert read_plan(written, "plan.yaml").plan == plan
    assert schema_faults(yaml.safe_load(written), SCHEMA) == []


def test_a_path_has_a_place_in_the_file() -> None:
    plan = read_plan(WHOLE, "dir/plan.yaml")
    assert plan.where("tasks[0].depends_on[1]") == "dir/plan.yaml:9:25"
    assert plan.where("tasks[0].depends_on[7]") == "dir/plan.yaml:9:17"
    assert plan.where("tasks[1].priority") == "dir/plan.yaml:16:5"
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


def test_a_key_that_is_nearly_right_is_offered() -> None:
    assert problems("title: T\ntask: []\ntasks: []")[0] == (
        "plan.yaml:2:1: task: unknown key; did you mean tasks? Known here: tasks, title"
    )


def plan_of(*tasks: str) -> str:
    return "title: T\ntasks:\n" + "".join(f"- {{{task}}}\n" for task in tasks)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("title: T\ntasks: []", "plan.yaml:2:8: tasks: the plan has no tasks; add at least one"),
        (
            plan_of("id: a, title: ' ', description: D"),
            "plan.yaml:3:18: tasks[0].title: task 'a' has no title",
        ),
        (
            plan_of("id: a, title: A, description: D", "id: a, title: B, description: D"),
            "plan.yaml:4:8: tasks[1].id: the id 'a' is taken by tasks[0]; ids are unique in a plan",
        ),
        (
            plan_of("id: a, title: A, description: D, depends_on: [a]"),
            "plan.yaml:3:50: tasks[0].depends_on[0]: task 'a' depends on itself",
        ),
        (
            plan_of("id: a, title: A, description: D, depends_on: [z]"),
            "plan.yaml:3:50: tasks[0].depends_on[0]: task 'a' depends on 'z', which no task is called",
        ),
        (
            plan_of(
                "id: a, title: A, description: D, depends_on: [b]",
                "id: b, title: B, description: D, depends_on: [a]",
            ),
            "plan.yaml:3:1: tasks: the tasks depend on each other in a cycle: a → b → a",
        ),
        (
            plan_of("id: a, title: A, description: D, role: planner"),
            "plan.yaml:3:43: tasks[0].role: the role planner makes plans; give the task another",
        ),
    ],
)
def test_what_only_the_whole_plan_tells_is_told_by_its_place(text: str, problem: str) -> None:
    assert problems(text) == [problem]


FORMS = {
    "id": "has letters, digits, '.', '_' and '-' only, and begins with a letter or digit",
    "role": "has small letters, digits and '-' only, and begins with a letter",
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            plan_of("id: a b/c, title: A, description: D"),
            f"plan.yaml:3:8: tasks[0].id: 'a b/c' cannot be a task's id, which {FORMS['id']}",
        ),
        (
            plan_of("id: a, title: A, description: D, role: Back End"),
            f"plan.yaml:3:43: tasks[0].role: 'Back End' cannot be a task's role, which {FORMS['role']}",
        ),
        (
            plan_of(f"id: a, title: {'A' * 201}, description: D"),
            "plan.yaml:3:18: tasks[0].title: has 201 characters; it may have 200",
        ),
        (
            plan_of("id: a, title: A, description: D").replace("T", "T" * 201, 1),
            "plan.yaml:1:8: title: has 201 characters; it may have 200",
        ),
    ],
)
def test_what_the_api_would_refuse_is_told_in_words_before_anything_starts(text: str, problem: str) -> None:
    assert problems(text) == [problem]


TAKEN = [WHOLE, plan_of("id: a, title: A, description: D")]
REFUSED = [
    "title: T",
    "tasks: []",
    "title: T\ntasks: []\ngoal: x",
    "title: T\ntasks: []",
    *(
        plan_of(f"id: a, title: A, description: D, {more}")
        for more in (
            "nope: 1",
            "priority: 5",
            "depends_on: b",
            "may_change: [all]",
            "role: [a]",
            "role: A",
            f"model: {'m' * 201}",
            "model: 1",
            "budget: {dollars: 0}",
            "budget: {}",
        )
    ),
    *(plan_of(f"id: a, title: A, description: D, budget: {{{amount}}}") for amount in ("", "dollars: 0")),
    plan_of("id: a, title: A"),
    plan_of("id: a/b, title: A, description: D"),
]


@pytest.mark.parametrize("text", TAKEN)
def test_what_the_parser_takes_the_schema_takes(text: str) -> None:
    read_plan(text, "plan.yaml")
    assert schema_faults(yaml.safe_load(text), SCHEMA) == []


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_schema_refuses_the_parser_refuses(text: str) -> None:
    assert schema_faults(yaml.safe_load(text), SCHEMA) != []
    assert problems(text)


def test_the_schema_knows_the_parsers_keys() -> None:
    task = SCHEMA["$defs"]["task"]
    assert sorted(SCHEMA["properties"]) == sorted(plan_pb2.Plan.DESCRIPTOR.fields_by_name)
    known = f"known here: {', '.join(sorted(task['properties']))}"
    assert problems(plan_of("id: a, title: A, description: D, 0: 1"))[0].endswith(known)


def test_the_schemas_lengths_are_the_apis() -> None:
    properties = SCHEMA["$defs"]["task"]["properties"]
    rules = {
        name: {**rule, **SCHEMA["$defs"].get(rule.get("$ref", "")[8:], {})}
        for name, rule in properties.items()
    }
    lengths = {name: rule["maxLength"] for name, rule in rules.items() if "maxLength" in rule}
    assert len(lengths) == 7
    for name, most in lengths.items():
        for length in (most, most + 1):
            task = plan_pb2.PlannedTask(id="a", title="A", description="D")
            setattr(task, name, "a" * length)
            found = violations(plan_pb2.Plan(title="T", tasks=[task]))
            assert [each.field for each in found] == ([f"tasks[0].{name}"] if length > most else [])


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
        (
            "budget: {dollars: free}",
            21,
            "budget",
            "dollars: 'free' is not an amount such as \"2.50\", of 1,000,000 at most",
        ),
        ("budget: {turns: [1]}", 19, "budget.turns", "must be an amount, not a list"),
        (
            "budget: {x: 1}",
            12,
            "budget.x",
            "unknown key; known here: dollars, time, tokens, turns",
        ),
        ("budget: {}", 11, "budget", "limits nothing; give some of tokens, dollars, turns, time"),
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
    tasks = (f"id: t{n}, title: A, description: {'x' * 50_000}" for n in range(340))
    assert problems(plan_of(*tasks)) == ["plan.yaml:1:1: the plan is larger than 16 MiB"]
