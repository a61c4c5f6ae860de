"""Two frontend tasks that make a component each, at the same time: the index exports both, each once."""

import asyncio
from pathlib import Path
from typing import Any

from codeframe.v1 import evidence_pb2, state_pb2
from services.workers.model.conversation import Conversation
from tests.git_project import branches, git, make_project
from tests.integration.lead_stage import serve_lead, task
from tests.worker_stage import Calls, Worker, serving, write

FILES = {
    "codeframe.toml": '[setup]\ncommand = "true"\n[verification]\ncommand = "cd web && node --test"\n',
    "web/package.json": '{"name": "web", "type": "module", "private": true}\n',
    "web/src/components/Title.js": "export function Title(text) {\n  return `<h1>${text}</h1>`;\n}\n",
    "web/src/components/index.js": 'export { Title } from "./Title.js";\n',
    "web/test/title.test.js": (
        "import assert from 'node:assert';\nimport { test } from 'node:test';\n"
        "import { Title } from '../src/components/index.js';\n\n"
        "test('a title', () => assert.equal(Title('a'), '<h1>a</h1>'));\n"
    ),
}


def add(name: str) -> Calls:
    """A component and its test."""
    text = f"export function {name}(text) {{\n  return `<{name.lower()}>${{text}}`;\n}}\n"
    test = (
        "import assert from 'node:assert';\nimport { test } from 'node:test';\n"
        f"import {{ {name} }} from '../src/components/index.js';\n\n"
        f"test('{name}', () => assert.equal({name}('a'), '<{name.lower()}>a'));\n"
    )
    component: dict[str, Any] = {"name": name, "path": f"web/src/components/{name}.js", "content": text}
    return [("add_component", component), write(f"web/test/{name.lower()}.test.js", test)]


async def test_components_made_at_the_same_time_are_each_exported_once(tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_project(project, FILES)
    async with (
        serving(tmp_path / "worker") as worker,
        serve_lead(tmp_path / "lead", project, worker.address) as lead,
    ):
        together(worker, badge=add("Badge"), card=add("Card"))
        run = await lead.create(task("badge", role="frontend"), task("card", role="frontend"))
        ended = await lead.ended(run.run_id)
        assert ended.state == state_pb2.RUN_STATE_COMPLETED, ended.failure
        tried = [each for each in await lead.attempts(run.run_id) if each.task_id]
        assert [each.outcome for each in tried] == [evidence_pb2.OUTCOME_SUCCEEDED] * 3, "one is done again"
        told = await lead.told(run.run_id, "task_status_changed")
        assert [each.reason for each in told if each.reason] == [evidence_pb2.OUTCOME_CONFLICT]
        index = git(project, "show", f"{ended.head_commit}:web/src/components/index.js").splitlines()
        assert sorted(index) == [
            f'export {{ {name} }} from "./{name}.js";' for name in ("Badge", "Card", "Title")
        ]
        assert branches(project)[run.branch] == ended.head_commit


def together(worker: Worker, **calls: Calls) -> None:
    """Have the model's first turns of these tasks begin once all of them are asked for."""
    both = asyncio.Event()
    waiting: set[str] = set()

    def first(name: str) -> Any:
        async def step(_: Conversation) -> Calls:
            waiting.add(name)
            if waiting == calls.keys():
                both.set()
            await both.wait()
            return calls[name]

        return step

    for name in calls:
        worker.model.scripts[name] = [first(name)]
