"""`codeframe clean --repo` where no lead runs: what it would delete is listed, and goes where you say so."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codeframe.cli.__main__ import main
from tests.git_project import branches, bytes_of, commit_files, git, make_project

RUN = "codeframe/r1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A run whose head has two commits, one merged by the user; an attempt in the head, and one beside it."""
    where = tmp_path / "shop"
    base = make_project(where, {"a": "1"})
    git(where, "checkout", "--quiet", "-b", f"{RUN}/head")
    commit_files(where, {"b": "1"}, "feat(b): merged by the user")
    git(where, "branch", "--force", f"{RUN}/attempts/b/1")
    git(where, "branch", "theirs")
    commit_files(where, {"c": "1"}, "feat(c): in the head alone")
    git(where, "checkout", "--quiet", "-b", f"{RUN}/attempts/d/1", base)
    commit_files(where, {"d": "1"}, "feat(d): did not pass")
    git(where, "branch", "codeframe/r2/head")
    git(where, "checkout", "--quiet", "-b", f"{RUN}/attempts/e/1", base)
    commit_files(where, {"e": "1"}, "feat(e): did not pass either")
    git(where, "checkout", "--quiet", "theirs")
    return where


def clean(where: Path | str, *more: str) -> Result:
    return CliRunner().invoke(main, ["clean", "r1", "--repo", str(where), "--data-dir", "/nowhere", *more])


LISTED = """\
codeframe/r1/head: 1 commit on no other branch, the last: feat(c): in the head alone
codeframe/r1/attempts/e/1: 1 commit on no other branch, the last: feat(e): did not pass either
"""


DOUBT = (
    "whether run r1 has ended is not known: no lead is running in /nowhere. One that goes on would fail.\n"
)


def test_without_a_lead_nothing_goes_unasked(project: Path) -> None:
    before, known = bytes_of(project), branches(project)
    result = clean(project)
    assert result.output == LISTED + DOUBT + (
        "deleted 0 of 4 branches of run r1\n"
        f"the rest is kept; delete it, too, with: codeframe clean r1 --repo {project} --yes\n"
    )
    assert result.exit_code == 1
    assert branches(project) == known
    assert bytes_of(project) == before


def test_unmerged_work_goes_where_it_is_told_to(project: Path) -> None:
    result = clean(project, "--yes")
    assert (result.exit_code, result.output) == (0, LISTED + DOUBT + "deleted 4 of 4 branches of run r1\n")
    assert list(branches(project)) == ["codeframe/r2/head"]
    again = clean(project)
    assert (again.exit_code, again.output) == (0, f"run r1 has no branches in {project}\n")


def test_a_bare_repository_and_a_url_are_cleaned_as_well(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "bare.git")
    git(tmp_path / "bare.git", "update-ref", "-d", "refs/heads/codeframe/r2/head")
    result = clean((tmp_path / "bare.git").as_uri())
    assert "attempts/d/1: 1 commit on no other branch" in result.output
    assert clean(tmp_path / "bare.git", "--yes").exit_code == 0
    assert branches(tmp_path / "bare.git") == {}


def test_a_repository_elsewhere_is_cleaned_by_a_push(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "bare.git")
    url = f"file://localhost{tmp_path}/bare.git"  # no path of this machine, as far as we know
    result = clean(url)
    assert (result.exit_code, result.output.startswith(LISTED)) == (1, True)
    assert "codeframe/r1/head" in branches(tmp_path / "bare.git")
    assert clean(url, "--yes").exit_code == 0
    assert list(branches(tmp_path / "bare.git")) == ["codeframe/r2/head"]


def test_a_branch_that_is_checked_out_is_left_and_so_are_all(project: Path) -> None:
    git(project, "checkout", "--quiet", f"{RUN}/head")
    before = branches(project)
    result = clean(project, "--yes")
    assert result.exit_code == 1
    assert f"codeframe/r1/head is checked out in {project}: leave it first" in result.output
    assert branches(project) == before


def test_what_is_no_repository_or_no_run_is_said(tmp_path: Path) -> None:
    result = clean(tmp_path)
    assert (result.exit_code, "not a git repository" in result.output) == (1, True)
    result = CliRunner().invoke(main, ["clean", "../r1", "--repo", str(tmp_path)])
    assert (result.exit_code, "is no run's id" in result.output) == (2, True)
