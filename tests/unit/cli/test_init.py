"""`codeframe init`: what it writes, what it leaves, and what it says."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from codeframe.cli.__main__ import main
from codeframe.planfile import read_plan
from codeframe.project import read_project
from tests.git_project import bytes_of, commit_files, git, make_project

PYTHON = {"tests/test_a.py": "def test_a():\n    pass\n"}
NODE = {"web/package.json": '{"scripts": {"test": "vitest run"}}'}


def init(folder: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["init", str(folder)])
    return result.exit_code, result.output


def test_what_it_writes_can_be_used_as_it_is(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", PYTHON | NODE)
    code, out = init(tmp_path / "shop")
    assert code == 0
    project = read_project((tmp_path / "shop" / "codeframe.toml").read_text())
    assert (project.verification, project.of("frontend").verification) == (
        "python -m pytest",
        "npm test --prefix web",
    )
    plan = read_plan((tmp_path / "shop" / "plan.yaml").read_text(), "plan.yaml").plan
    assert [task.role for task in plan.tasks] == ["test"]
    assert out.startswith(f"wrote {tmp_path}/shop/codeframe.toml\nwrote {tmp_path}/shop/plan.yaml\n")
    assert "1. Commit codeframe.toml" in out
    assert f"codeframe run {tmp_path}/shop/plan.yaml --repo {tmp_path}/shop\n" in out
    first = (tmp_path / "shop" / "plan.yaml").read_text().splitlines()[0]
    for line, tells in ((first, "$schema="), (out.splitlines()[-1], "#:schema ")):
        schema = json.loads(Path(line.partition(tells)[2].removeprefix("file://")).read_text())
        assert schema["type"] == "object"


def test_where_one_stands_in_the_repository_the_next_steps_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path / "shop", PYTHON)
    monkeypatch.chdir(tmp_path / "shop")
    assert "codeframe run plan.yaml --repo .\n" in init(Path())[1]


def test_a_project_of_one_kind_is_verified_one_way(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", NODE)
    init(tmp_path / "shop")
    told = tomllib.loads((tmp_path / "shop" / "codeframe.toml").read_text())
    assert told == {"verification": {"command": "npm test --prefix web"}}


def test_where_no_tests_are_found_it_says_what_is_missing(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", {"README.md": ""})
    code, out = init(tmp_path / "shop")
    assert (code, tomllib.loads((tmp_path / "shop" / "codeframe.toml").read_text())) == (0, {})
    assert "1. Name the command that runs the tests in codeframe.toml: none was found." in out


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", PYTHON)
    commit_files(tmp_path / "shop", {"codeframe.toml": "", "plan.yaml": "mine"})
    before = bytes_of(tmp_path / "shop")
    code, out = init(tmp_path / "shop")
    assert (code, out.count("left ")) == (0, 2)
    assert bytes_of(tmp_path / "shop") == before


def test_a_folder_of_a_repository_means_the_repository(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", PYTHON)
    assert init(tmp_path / "shop" / "tests")[0] == 0
    assert (tmp_path / "shop" / "codeframe.toml").exists()


@pytest.mark.parametrize("bare", [True, False])
def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, bare: bool) -> None:
    if bare:
        git(tmp_path, "init", "--quiet", "--bare")
    before = set(tmp_path.iterdir())
    code, out = init(tmp_path)
    assert code == 2
    assert ("is a bare repository" if bare else "make one with `git init`") in out
    assert set(tmp_path.iterdir()) == before
