"""A frontend whose tests need packages of npm's: installed by its lock, worked on, verified and proven."""

import base64
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf import json_format

from codeframe.v1 import evidence_pb2
from services.workers.model.conversation import Conversation
from services.workers.setup import find_toolchain
from tests.attempts import task_request, verify_request
from tests.git_project import files_at, git
from tests.processes import descendants
from tests.worker_stage import Calls, Worker, last_told, serving, write

VERIFICATION = "cd web && npm test"
FILES = {
    ".gitignore": "node_modules/\n",
    "web/package.json": json.dumps(
        {
            "name": "web",
            "version": "1.0.0",
            "private": True,
            "type": "module",
            "scripts": {"test": "node --test"},
            "dependencies": {"pad": "file:vendor/pad-1.0.0.tgz"},
        },
        indent=2,
    ),
    "web/src/components/Title.js": (
        "import pad from 'pad';\n\nexport function Title(text) {\n  return pad(text);\n}\n"
    ),
    "web/src/components/index.js": "export { Title } from './Title.js';\n",
    "web/test/title.test.js": (
        "import assert from 'node:assert';\nimport { test } from 'node:test';\n"
        "import { Title } from '../src/components/index.js';\n\n"
        "test('pads a title', () => assert.equal(Title('a'), '<a>'));\n"
    ),
}
BADGE = "import pad from 'pad';\n\nexport function Badge(text) {\n  return pad(pad(text));\n}\n"
BADGE_TEST = (
    "import assert from 'node:assert';\nimport { test } from 'node:test';\n"
    "import { Badge } from '../src/components/index.js';\n\n"
    "test('pads a badge twice', () => assert.equal(Badge('a'), '<<a>>'));\n"
)


def npm(folder: Path, *arguments: str) -> None:
    toolchain = find_toolchain()
    assert toolchain.node is not None
    assert toolchain.npm is not None
    program = toolchain.npm / "bin" / "npm-cli.js"
    subprocess.run(
        (str(toolchain.node), str(program), *arguments), cwd=folder, check=True, capture_output=True
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose frontend locks a package that was packed into it: npm asks no registry for it."""
    project, pad = tmp_path / "project", tmp_path / "pad"
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (project / "web/vendor").mkdir()
    pad.mkdir()
    (pad / "package.json").write_text('{"name": "pad", "version": "1.0.0", "main": "pad.js"}')
    (pad / "pad.js").write_text("module.exports = text => `<${text}>`;\n")
    npm(pad, "pack", "--silent", "--pack-destination", str(project / "web/vendor"))
    npm(project / "web", "install", "--package-lock-only", "--offline", "--no-audit", "--no-fund")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "first")
    return project


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with serving(tmp_path / "data") as worker:
        yield worker
    assert not descendants(), "a process was left behind"


async def test_a_frontend_with_locked_packages_is_worked_on(worker: Worker, project: Path) -> None:
    base = git(project, "rev-parse", "HEAD")
    lock = json.loads((project / "web/package-lock.json").read_text())["packages"]["node_modules/pad"]
    assert base64.b64decode(lock["integrity"].partition("-")[2]), "npm ci holds it to its digest"

    verified = await worker.result(verify_request(project, base, verification=VERIFICATION))
    assert evidence_pb2.Outcome.Name(verified.outcome) == "OUTCOME_SUCCEEDED", verified.message
    report = json_format.Parse(
        await worker.artifact("run.verify-1", "test-report"), evidence_pb2.TestReport()
    )
    known = [test.id for test in report.tests]
    assert len(known) == 1

    async def look(conversation: Conversation) -> Calls:
        assert "2 passed" in last_told(conversation), last_told(conversation)
        return []

    component = {"name": "Badge", "path": "web/src/components/Badge.js", "content": BADGE}
    worker.model.scripts["sum"] = [
        [("add_component", component), write("web/test/badge.test.js", BADGE_TEST), ("run_tests", {})],
        look,
    ]
    request = task_request(project, base, role="frontend", passing=known, verification=VERIFICATION)
    result = await worker.result(request)
    assert evidence_pb2.Outcome.Name(result.outcome) == "OUTCOME_SUCCEEDED", result.message
    assert [file.path for file in result.files] == [
        "web/src/components/Badge.js",
        "web/src/components/index.js",
        "web/test/badge.test.js",
    ]
    assert not [path for path in files_at(project, result.commit) if "node_modules" in path]
    log = await worker.artifact("run.sum.1", "log")
    assert "pads a badge twice" in log


async def test_a_package_that_is_not_what_the_lock_says_is_not_installed(
    worker: Worker, project: Path
) -> None:
    lock = project / "web/package-lock.json"
    locked = json.loads(lock.read_text())
    locked["packages"]["node_modules/pad"]["integrity"] = "sha512-" + base64.b64encode(b"x" * 64).decode()
    lock.write_text(json.dumps(locked))
    git(project, "commit", "--quiet", "-am", "another digest")
    base = git(project, "rev-parse", "HEAD")
    result = await worker.result(verify_request(project, base, verification=VERIFICATION))
    assert evidence_pb2.Outcome.Name(result.outcome) == "OUTCOME_SETUP_FAILED"
    assert "npm ci" in result.message
