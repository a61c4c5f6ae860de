"""What is wrong with a plan is named, all of it at once."""

import time

import pytest

from codeframe.plan import MAX_TASKS, Plan, PlannedTask, faults
from services.lead.assignment import assign_role


def plan(*tasks: tuple[str, list[str]]) -> Plan:
    return Plan("a plan", tuple(PlannedTask(id, f"task {id}", depends_on=tuple(on)) for id, on in tasks))


def test_a_valid_plan_has_no_faults_whatever_order_it_is_listed_in() -> None:
    assert faults(plan(("c", ["a", "b"]), ("1.5.1", []), ("b", ["a"]), ("a", []))) == []


def test_a_cycle_is_named_by_its_tasks() -> None:
    (fault,) = faults(plan(("a", ["b"]), ("b", ["a"]), ("c", ["a"])))
    assert fault.message.endswith("a → b → a")


def test_every_cycle_is_found_behind_a_long_tail() -> None:
    found = faults(plan(("t", ["x"]), ("x", ["y"]), ("y", ["z"]), ("z", ["x"]), ("p", ["q"]), ("q", ["p"])))
    assert [fault.message.rsplit(": ", 1)[1] for fault in found] == ["x → y → z → x", "p → q → p"]


def test_self_unknown_and_duplicate_are_named_with_their_paths() -> None:
    found = faults(plan(("a", ["a"]), ("b", ["nope"]), ("a", [])))
    assert {fault.path: fault.message for fault in found} == {
        "plan.tasks[2].id": "the id 'a' is taken by tasks[0]; ids are unique in a plan",
        "plan.tasks[0].depends_on[0]": "task 'a' depends on itself",
        "plan.tasks[1].depends_on[0]": "task 'b' depends on 'nope', which no task is called",
    }


def test_empty_and_oversized_plans_are_refused() -> None:
    assert faults(Plan("nothing"))[0].path == "plan.tasks"
    many = plan(*((str(number), []) for number in range(MAX_TASKS + 1)))
    assert f"at most {MAX_TASKS}" in faults(many)[0].message


def test_ten_thousand_tasks_in_one_chain_are_allowed() -> None:
    chain = plan(*((str(n), [str(n - 1)] if n else []) for n in range(MAX_TASKS)))
    started = time.process_time()
    assert faults(chain) == []
    assert time.process_time() - started < 5  # linear: quadratic would take minutes


@pytest.mark.parametrize(
    ("title", "description", "role"),
    [
        ("Build the database", "", "backend"),
        ("Write the latest orders", "", "backend"),
        ("Do the thing", "as discussed", "backend"),
        ("Add a button component", "React", "frontend"),
        ("Test the orders API", "write pytest tests", "test"),
        ("Guide users through the build", "", "backend"),
    ],
)
def test_roles_are_assigned_by_whole_words(title: str, description: str, role: str) -> None:
    assert assign_role(title, description) == role
