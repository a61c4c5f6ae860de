"""The test role, from request to result: its tests must notice wrong code, and a defect must be shown."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2
from services.workers.model.conversation import Conversation
from services.workers.setup import find_toolchain
from tests.attempts import outcome, task_request
from tests.git_project import commit_files, files_at, git, make_project
from tests.processes import descendants
from tests.python_project import python_project
from tests.worker_stage import Calls, Step, Worker, last_told, overwrite, prompt, serving, write

FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": (
        "def total(prices):\n    return sum(prices)\n\n\ndef cheapest(prices):\n    return max(prices)\n"
    ),
    "tests/test_prices.py": (
        "from shop.prices import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
    ),
}
KNOWN = "tests/test_prices.py::test_total"
HONEST = "from shop.prices import total\n\n\ndef test_more():\n    assert total([1, 3]) == 4\n"
IDLE = "from shop.prices import total\n\n\ndef test_more():\n    total([1, 3])\n    assert True\n"
SHOWS = "from shop.prices import cheapest\n\n\ndef test_cheapest():\n    assert cheapest([1, 3]) == 1\n"
DEFECT = "cheapest gives the dearest"


@pytest.fixture
def project(tmp_path: Path, python: Path) -> Path:
    python_project(tmp_path / "project", python, FILES)
    return tmp_path / "project"


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with serving(tmp_path / "data") as worker:
        yield worker
        assert not set((tmp_path / "data/attempts").iterdir()), "a workspace was left behind"
    assert not descendants(), "a process was left behind"


async def do(worker: Worker, project: Path, *steps: Step, **asked: object) -> evidence_pb2.TaskResult:
    worker.model.scripts["sum"] = steps
    base, more = git(project, "rev-parse", "HEAD"), {"passing": [KNOWN], "role": "test", **asked}
    return await worker.result(task_request(project, base, **more))  # type: ignore[arg-type]


def report(*tests: str) -> tuple[str, dict[str, object]]:
    return "report_defect", {"tests": list(tests), "defect": DEFECT}


async def test_tests_that_notice_wrong_code_are_accepted_with_proof(worker: Worker, project: Path) -> None:
    result = await do(worker, project, [write("tests/test_more.py", HONEST)])
    assert outcome(result) == "SUCCEEDED", result.message
    check = result.mutation_check
    assert (check.commit, check.not_done) == (result.commit, "")
    assert check.failed_test == "tests/test_more.py::test_more"
    assert [(one.path, one.line, one.before, one.after) for one in check.tried] == [
        ("shop/prices.py", 2, "sum(prices)", "None")
    ]
    assert "small wrong changes" in " ".join(prompt(worker.model.conversations[0]).lower().split())
    log = await worker.artifact("run.sum.1", "log")
    assert "shop/prices.py:2: `sum(prices)` became `None`: noticed by tests/test_more.py::test_more" in log
    assert files_at(project, result.commit) == {".gitignore", *FILES, "tests/test_more.py"}
    assert git(project, "show", f"{result.commit}:shop/prices.py") == FILES["shop/prices.py"].strip()


async def test_tests_that_notice_nothing_are_corrected_or_fail(worker: Worker, project: Path) -> None:
    told: list[str] = []

    async def correct(conversation: Conversation) -> Calls:
        told.append(last_told(conversation))
        return [overwrite("tests/test_more.py", HONEST)]

    result = await do(worker, project, [write("tests/test_more.py", IDLE)], [], correct)
    assert (outcome(result), result.corrections) == ("SUCCEEDED", 1)
    assert "no new test fails on any of 2 wrong changes of the code under test" in told[0]
    assert "shop/prices.py:2: `sum(prices)` became `None`" in told[0]


NODE = {
    "package.json": '{"type": "module", "scripts": {"test": "node --test"}}',
    "src/cart.js": "export function total(all) {\n  return all.reduce((sum, one) => sum + one, 0);\n}\n",
    "tests/cart.test.js": "import test from 'node:test';\ntest('known', () => {});\n",
}
NODE_TEST = """\
import assert from 'node:assert';
import test from 'node:test';
import { total } from '../src/cart.js';

test('adds up', () => { assert.equal(total([1, 2]), 3); });
"""


async def test_javascript_is_mutated_too(worker: Worker, tmp_path: Path) -> None:
    make_project(tmp_path / "web", NODE)
    asked: dict[str, object] = {"verification": "npm test", "passing": [], "corrections": 0}
    web = tmp_path / "web"
    result = await do(worker, web, [write("tests/more.test.js", NODE_TEST)], **asked)
    assert outcome(result) == "SUCCEEDED", result.message
    check = result.mutation_check
    assert check.failed_test == "tests/more.test.js > adds up"
    assert [(one.path, one.line, one.after) for one in check.tried] == [("src/cart.js", 2, "null")]
    idle = NODE_TEST.replace("assert.equal(total([1, 2]), 3)", "total([1, 2])")
    more = {**asked, "attempt_id": "run.sum.2"}
    result = await do(worker, web, [write("tests/more.test.js", idle)], **more)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "no new test fails on any of" in result.message


RUST = {
    "Cargo.toml": '[package]\nname = "shop"\nversion = "0.1.0"\nedition = "2021"\n',
    "Cargo.lock": 'version = 3\n\n[[package]]\nname = "shop"\nversion = "0.1.0"\n',
    "src/lib.rs": "pub fn total(all: &[u64]) -> u64 {\n    all.iter().fold(0, |sum, one| sum + one)\n}\n",
    "tests/known.rs": "#[test]\nfn known() {\n    assert_eq!(shop::total(&[]), 0);\n}\n",
}
RUST_TEST = "#[test]\nfn adds_up() {\n    assert_eq!(shop::total(&[1, 2]), 3);\n}\n"


@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_toolchain().cargo is None, reason="NO CARGO HERE: Rust's mutants are not proven")
async def test_rust_is_mutated_too(worker: Worker, tmp_path: Path) -> None:
    make_project(tmp_path / "crate", RUST)
    known = ["known tests/known.rs > known"]
    asked: dict[str, object] = {"verification": "cargo test", "passing": known, "corrections": 0}
    asked |= {"timeout": 250, "test_timeout": 120}
    crate = tmp_path / "crate"
    result = await do(worker, crate, [write("tests/more.rs", RUST_TEST)], **asked)
    assert outcome(result) == "SUCCEEDED", result.message
    check = result.mutation_check
    assert check.failed_test == "more tests/more.rs > adds_up"
    tried = [(one.path, one.line, one.before, one.after) for one in check.tried]
    assert tried == [("src/lib.rs", 2, "+", "-")]
    idle = RUST_TEST.replace("assert_eq!(shop::total(&[1, 2]), 3)", "let _ = shop::total(&[])")
    more = {**asked, "attempt_id": "run.sum.2"}
    result = await do(worker, crate, [write("tests/more.rs", idle)], **more)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "no new test fails on any of" in result.message


async def test_a_test_that_fails_whatever_the_code_says_notices_nothing(
    worker: Worker, project: Path
) -> None:
    """It passes once in each checkout, and so in the verification."""
    twice = (
        "from pathlib import Path\nfrom shop.prices import total\n\n\ndef test_more():\n"
        "    total([])\n    mark = Path(__file__).with_name('mark')\n    seen = mark.exists()\n"
        "    mark.write_text('')\n    assert not seen\n"
    )
    result = await do(worker, project, [write("tests/test_more.py", twice)], corrections=0)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert result.verifications[-1].green, "the tests are green, and prove nothing"
    assert (len(result.mutation_check.tried), result.mutation_check.failed_test) == (2, "")


async def test_a_base_without_code_says_that_nothing_was_tried(worker: Worker, project: Path) -> None:
    commit_files(project, {"shop/prices.py": None, "shop/__init__.py": None, "tests/test_prices.py": None})
    test = "def test_readme():\n    assert 1 + 1 == 2\n"
    result = await do(worker, project, [write("tests/test_more.py", test)], passing=[])
    assert outcome(result) == "SUCCEEDED", result.message
    assert "no code in a language that can be mutated" in result.mutation_check.not_done


async def test_a_mutant_is_never_written_through_a_link(
    worker: Worker, project: Path, tmp_path: Path
) -> None:
    """The test puts a link where the mutant is written back."""
    outside = tmp_path / "outside.py"
    outside.write_text("mine")
    link = (
        "import os\nfrom pathlib import Path\nimport shop.prices\n\n\ndef test_more():\n"
        f"    os.unlink(shop.prices.__file__)\n    os.symlink({str(outside)!r}, shop.prices.__file__)\n"
        "    assert shop.prices.total([1]) == 1\n"
    )
    result = await do(worker, project, [write("tests/test_more.py", link)], corrections=0)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert outside.read_text() == "mine"


async def test_a_defect_that_a_test_shows_ends_the_task(worker: Worker, project: Path) -> None:
    steps = [write("tests/test_cheapest.py", SHOWS), report("tests/test_cheapest.py::test_cheapest")]
    result = await do(worker, project, steps, [write("tests/test_never.py", HONEST)])
    assert outcome(result) == "DEFECT_FOUND"
    assert result.message.startswith(DEFECT)
    assert "tests/test_cheapest.py::test_cheapest" in result.message
    assert "assert 3 == 1" in result.message
    assert git(project, "rev-parse", "codeframe/run/attempts/run.sum.1") == result.commit
    assert files_at(project, result.commit) == {".gitignore", *FILES, "tests/test_cheapest.py"}
    assert [(one.commit, one.green) for one in result.verifications] == [(result.commit, False)] * 2
    assert {artifact.name for artifact in result.artifacts} >= {"test-report", "diff", "transcript"}


async def test_a_models_word_for_a_defect_is_not_enough(worker: Worker, project: Path) -> None:
    said: list[str] = []

    async def end(conversation: Conversation) -> Calls:
        said.append(last_told(conversation))
        return []

    result = await do(worker, project, [write("tests/test_more.py", HONEST), report("test_more")], end)
    assert outcome(result) == "SUCCEEDED", result.message
    assert "no defect is shown: tests/test_more.py::test_more did not run and fail, it is passed" in said[0]


async def test_other_roles_have_no_such_tool(worker: Worker, project: Path) -> None:
    steps = [write("tests/test_cheapest.py", SHOWS), report("test_cheapest")]
    result = await do(worker, project, steps, role="backend", corrections=0)
    assert outcome(result) == "VERIFICATION_FAILED"
    assert "report_defect" not in {spec.name for spec in worker.model.conversations[0].tools}
