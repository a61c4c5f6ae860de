"""What CreateRun makes of a request and a tree, and how it says what is wrong."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from codeframe.budget import NO_LIMIT, Budget
from codeframe.plan import Protected
from codeframe.v1 import budget_pb2, lead_pb2, plan_pb2
from services.lead.creation import check_request, create_run, project_name
from services.lead.machine.private_records import RunCreated
from services.lead.machine.state import RoleScope, RunLimits
from services.lead.tree import Tree
from services.runtime.errors import InvalidArgument

TOML = """
[setup]
command = "make deps"
paths = [".venv"]
[verification]
command = "make check"
report = "report.xml"
timeout = "90s"
"""
PYTHON = {"pyproject.toml": "[tool.pytest.ini_options]\n", "tests/test_a.py": ""}
NODE = {"web/package.json": '{"scripts": {"test": "vitest run"}}'}


def task(id: str, *depends_on: str, **more: Any) -> plan_pb2.PlannedTask:
    return plan_pb2.PlannedTask(id=id, title=f"Do {id}", depends_on=depends_on, **more)


def request(*tasks: plan_pb2.PlannedTask, **more: Any) -> lead_pb2.CreateRunRequest:
    plan = plan_pb2.Plan(title="a plan", tasks=tasks)
    return lead_pb2.CreateRunRequest(request_id="q", repository="/srv/shop.git", plan=plan, **more)


def created(asked: lead_pb2.CreateRunRequest, files: Mapping[str, str]) -> RunCreated:
    return create_run(
        asked,
        check_request(asked),
        Tree(files.keys(), files.get),
        run_id="r",
        base="0" * 40,
        branch="codeframe/r/head",
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_a_tasks_own_budget_is_kept() -> None:
    bounded = task("a", budget=budget_pb2.Budget(turns=3, cost_micros=1_500_000))
    tasks = created(request(bounded, task("b")), PYTHON).tasks
    assert [each.budget for each in tasks] == [Budget(turns=3, cost_micros=1_500_000), NO_LIMIT]


def refusal(
    asked: lead_pb2.CreateRunRequest, files: Mapping[str, str] = PYTHON
) -> tuple[str, str, list[str]]:
    with pytest.raises(InvalidArgument) as caught:
        created(asked, files)
    error = caught.value
    reason = error.reason.removeprefix("ERROR_REASON_")
    return reason, error.message, [each.field for each in error.violations]


def test_faults_of_the_plan_name_their_fields() -> None:
    reason, message, fields = refusal(request(task("a"), task("a"), task("b", "b", "c")))
    assert reason == "INVALID_PLAN"
    assert fields == ["plan.tasks[1].id", "plan.tasks[2].depends_on[0]", "plan.tasks[2].depends_on[1]"]
    assert "'b' depends on itself" in message


def test_a_cycle_is_named() -> None:
    reason, message, _ = refusal(request(task("a", "b"), task("b", "a")))
    assert (reason, "a → b → a" in message) == ("INVALID_PLAN", True)


def test_roles_are_assigned_where_the_plan_names_none() -> None:
    tasks = created(
        request(
            plan_pb2.PlannedTask(id="1", title="Build the database"),
            plan_pb2.PlannedTask(id="2", title="Write the latest orders"),
            plan_pb2.PlannedTask(id="3", title="A button component"),
            plan_pb2.PlannedTask(id="4", title="Build the database", role="reviewer"),
        ),
        PYTHON,
    ).tasks
    assert [each.role for each in tasks] == ["backend", "backend", "frontend", "reviewer"]


def test_what_a_task_says_is_kept() -> None:
    kinds = [plan_pb2.PROTECTED_KIND_TESTS, plan_pb2.PROTECTED_KIND_CI]
    (kept,) = created(
        request(task("a", role="backend", description="all of it", model="m", priority=0, may_change=kinds)),
        PYTHON,
    ).tasks
    assert (kept.description, kept.model, kept.priority) == ("all of it", "m", 0)
    assert kept.may_change == {Protected.TESTS, Protected.CI}
    assert created(request(task("a")), PYTHON).tasks[0].priority == 2


def test_checks_come_from_the_plan_else_codeframe_toml_else_the_tree() -> None:
    plan = request(
        task("a", role="backend"),
        task("b", role="backend", verification="sh own.sh"),
        task("c", role="backend", setup="make own-deps"),
    )
    made = created(plan, {**PYTHON, "codeframe.toml": TOML})
    checks = [made.checks[made.check_of[name]] for name in "abc"]
    assert [each.verification for each in checks] == ["make check", "sh own.sh", "make check"]
    assert [each.report for each in checks] == ["report.xml", "", "report.xml"]
    assert [each.setup for each in checks] == ["make deps", "make deps", "make own-deps"]
    assert [each.setup_paths for each in checks] == [(".venv",), (".venv",), ()]
    assert [each.key for each in made.checks] == [0, 1, 2]
    found = created(request(task("a", role="backend")), PYTHON)
    assert found.checks[0].verification == "python -m pytest"


def test_a_task_may_say_that_nothing_verifies_it_and_then_brings_no_check() -> None:
    made = created(request(task("docs", role="backend", verification="none"), task("a")), PYTHON)
    assert made.check_of == {"a": 0}
    assert [each.verification for each in made.checks] == ["python -m pytest"]
    bare = created(request(task("docs", role="backend", verification="none")), {"README": "read me"})
    assert (bare.check_of, bare.checks) == ({}, ())


def test_a_makefile_says_where_its_report_goes() -> None:
    made = created(request(task("a")), {"Makefile": "test:\n\tctest --output-junit out/unit.xml\n"})
    assert [(each.verification, each.report) for each in made.checks] == [("make test", "out/unit.xml")]


def test_each_distinct_check_is_made_once_with_the_first_role_that_brings_it() -> None:
    plan = request(
        task("a", role="backend"), task("b", role="test"), task("c", role="frontend"), task("d", role="test")
    )
    made = created(plan, {**PYTHON, **NODE})
    assert [(each.role, each.verification) for each in made.checks] == [
        ("backend", "python -m pytest"),
        ("frontend", "npm test --prefix web"),
    ]
    assert made.check_of == {"a": 0, "b": 0, "c": 1, "d": 0}


def test_a_base_that_tells_no_verification_is_refused_naming_the_tasks() -> None:
    reason, message, fields = refusal(request(task("a", verification="true"), task("b")), {"README": ""})
    assert (reason, fields) == ("NO_VERIFICATION", ["plan.tasks[1].verification"])
    assert "codeframe.toml" in message
    with pytest.raises(InvalidArgument) as caught:
        created(request(task("b")), {"README": ""})
    assert "name the command there, or in codeframe.toml" in caught.value.violations[0].message


def test_a_codeframe_toml_that_cannot_be_used_is_refused() -> None:
    reason, message, _ = refusal(request(task("a")), {"codeframe.toml": "[verification]\ncomand = 1\n"})
    assert (reason, "codeframe.toml:2:1: verification.comand" in message) == ("INVALID_REPOSITORY", True)


ROLES = """
model = "large"
[roles.test]
model = "small"
verification = { command = "make test-all", report = "all.xml" }
setup = { command = "make test-deps" }
allow = ["checks/**"]
deny = ["checks/old/**"]
[roles.docs]
model = "tiny"
"""


def test_a_role_has_commands_models_and_a_scope_of_its_own() -> None:
    plan = request(
        task("a", role="backend"),
        task("b", role="test"),
        task("c", role="test", verification="sh own.sh", model="own"),
        task("d", role="docs"),
    )
    made = created(plan, {**PYTHON, "codeframe.toml": ROLES + TOML})
    assert [each.model for each in made.tasks] == ["large", "small", "own", "tiny"]
    checks = [made.checks[made.check_of[name]] for name in "abcd"]
    assert [each.verification for each in checks] == [
        "make check",
        "make test-all",
        "sh own.sh",
        "make check",
    ]
    assert [each.report for each in checks] == ["report.xml", "all.xml", "", "report.xml"]
    assert [each.setup for each in checks] == ["make deps", "make test-deps", "make test-deps", "make deps"]
    assert [each.setup_paths for each in checks] == [(".venv",), (), (), (".venv",)]
    assert made.facts.scopes == {"test": RoleScope(("checks/**",), ("checks/old/**",))}


def test_a_repository_path_must_be_absolute() -> None:
    asked = request(task("a"))
    asked.repository = "shop"
    reason, message, fields = refusal(asked)
    assert (reason, fields) == ("INVALID_REPOSITORY", ["repository"])
    assert "absolute" in message
    for fine in ("https://example.org/shop.git", "git@example.org:shop.git", "file:///srv/shop", "/srv/shop"):
        asked.repository = fine
        created(asked, PYTHON)


def test_limits_that_are_not_set_have_their_defaults() -> None:
    assert created(request(task("a")), PYTHON).facts.limits == RunLimits()
    with_file = {**PYTHON, "codeframe.toml": TOML}
    assert created(request(task("a")), with_file).facts.limits.test_timeout == timedelta(seconds=90)
    limits = lead_pb2.RunLimits(
        concurrency=9, retries=0, corrections=1, turns=7, test_timeout=Duration(seconds=5)
    )
    limits.run_timeout.FromSeconds(60)
    assert created(request(task("a"), limits=limits), with_file).facts.limits == RunLimits(
        concurrency=9,
        retries=0,
        corrections=1,
        turns=7,
        test_timeout=timedelta(seconds=5),
        run_timeout=timedelta(seconds=60),
    )


@pytest.mark.parametrize(
    ("repository", "project"),
    [
        ("/srv/shop.git", "shop"),
        ("/srv/my shop/", "my-shop"),
        ("git@example.org:team/shop.git", "shop"),
        ("git@example.org:shop", "shop"),
        ("https://example.org/käse.git", "k-se"),
        ("/", "repository"),
        (f"/srv/{'x' * 300}", "x" * 100),
    ],
)
def test_a_project_is_the_repositorys_last_path_part(repository: str, project: str) -> None:
    asked = request(task("a"))
    asked.repository = repository
    assert project_name(asked) == project
    asked.project = "named"
    assert project_name(asked) == "named"
