"""A role of one's own, from its folder to a merged commit: real servers, and the scripted Claude."""

import re
from pathlib import Path

import pytest

from codeframe.cli.folder import running
from services.workers.sandbox import Mode
from tests.command import told
from tests.git_project import files_at, git
from tests.python_project import make_python, python_project
from tests.sandboxes import allows
from tests.server_process import plain_environment
from tests.unit.demo.serving import KEY, serving

pytestmark = pytest.mark.timeout(240)

FILES = {
    "shop.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_shop.py": "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n",
    "codeframe.toml": '[setup]\npaths = [".venv"]\n[verification]\ncommand = "python -m pytest -q"\n',
}
ROLE = """\
title = "technical writer"
tools = ["read_file", "create_file"]

[scope]
allow = ["docs/**"]

[verification]
commit_type = "docs"
advice = "Documents need no test."
"""
PLAN = """\
title: Documents
tasks:
- id: manual
  title: A manual
  description: "Write it. [script: manual]"
  role: writer
"""
SCRIPT = """\
marker: manual
steps:
  - when: {turn: 1}
    say: I try the code first, and the manual.
    use:
      - create_file: {path: shop2.py, content: "x = 1"}
      - create_file: {path: docs/manual.md, content: "# Manual"}
  - when: {turn: 2, last_result_contains: "shop2.py: is outside what the writer role may write"}
    say: Only documents, then.
    use:
      - create_file: {path: docs/manual.md, content: "# Manual"}
  - when: {turn: 3}
    say: Done.
"""


@pytest.fixture
def role(tmp_path: Path) -> Path:
    folder = tmp_path / "writer"
    folder.mkdir()
    (folder / "role.toml").write_text(ROLE)
    (folder / "prompt.md").write_text("You are the manual's only author.\n")
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return plain_environment(XDG_STATE_HOME=str(tmp_path / "state"), ANTHROPIC_API_KEY=KEY)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_python(tmp_path / "python")
    python_project(tmp_path / "repo", tmp_path / "python", FILES)
    return tmp_path / "repo"


async def test_a_role_of_ones_own_does_its_task(
    tmp_path: Path, repo: Path, role: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    sandbox = () if allows(Mode.BUBBLEWRAP) or allows(Mode.SANDLOCK) else ("--sandbox", "none")
    async with serving(tmp_path, {"manual.yaml": SCRIPT}) as claude:
        environment["ANTHROPIC_BASE_URL"] = claude.url
        arguments = (
            "run",
            str(tmp_path / "plan.yaml"),
            "--repo",
            str(repo),
            "--role",
            str(role),
        )
        code, output = await told(*arguments, *sandbox, env=environment)
        assert code == 0, output
        assert running(tmp_path / "state" / "codeframe") is None, "the servers that it started are stopped"
        assert len(claude.requests()) == 3
    (branch,) = git(repo, "for-each-ref", "--format=%(refname)", "refs/heads/codeframe").split()
    assert files_at(repo, branch) == {".gitignore", *FILES, "docs/manual.md"}
    assert git(repo, "log", "-1", "--format=%s", branch) == "docs(manual): A manual"
    assert re.search(r"manual +writer +completed", output)


async def test_a_folder_that_is_no_role_starts_nothing(
    tmp_path: Path, role: Path, environment: dict[str, str]
) -> None:
    code, output = await told("up", "--role", str(tmp_path), env=environment)
    assert (code, "has no role.toml; docs/roles.md" in output) == (2, True)
    (role / "role.toml").write_text(ROLE.replace("allow =", "alow ="))
    code, output = await told("up", "--role", str(role), env=environment)
    assert code == 1
    assert "writer did not start" in output
    assert f"{role}/role.toml:5:1: scope.alow: unknown key; did you mean allow?" in output
    twice = ("--role", str(role), "--role", str(role))
    code, output = await told("up", *twice, env=environment)
    assert (code, "the name writer is taken" in output) == (2, True)
