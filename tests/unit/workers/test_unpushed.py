"""What a killed worker leaves: work that was not pushed is kept and told of, the rest removed."""

import os
import shutil
from pathlib import Path

import pytest

from services.runtime.git import Git
from services.workers.workspace import DataFolder, Repository, WorkNote
from tests.git_project import git, make_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path / "project", {"a.py": "a = 1\n", ".gitignore": "*.log\n"})
    return tmp_path / "project"


def head(project: Path) -> str:
    return git(project, "rev-parse", "HEAD")


async def killed_with_work(project: Path, folder: Path, *, pushed: bool = True) -> tuple[Repository, Path]:
    """A data folder as a worker leaves it that was killed while an agent had written two files."""
    first = DataFolder(folder, Git(os.environ))
    await first.open()
    repository = first.repository(str(project))
    await repository.obtain(head(project))
    worktree = first.worktree(repository, first.attempt("run.a.1") / "tree")
    await worktree.check_out(head(project))
    attempt = worktree.root.parent
    WorkNote("run.a.1", str(project), "codeframe/run/attempts/a/1", head(project), pushed).write(attempt)
    (worktree.root / "a.py").write_text("a = 2\n")
    (worktree.root / "made.py").write_text("made = 1\n")
    (worktree.root / "noise.log").write_text("ignored\n")
    (attempt / "tree.index.lock").touch()
    first.close()
    return repository, attempt


async def test_work_of_a_killed_worker_is_kept_and_told(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = head(project)
    repository, attempt = await killed_with_work(project, tmp_path / "data")
    second = DataFolder(tmp_path / "data", Git(os.environ))
    await second.open()
    assert not attempt.exists()
    ref = "refs/codeframe/kept/run/attempts/a/1"
    assert (
        f"work of run.a.1 was not pushed as its worker was killed; see git --git-dir={repository.git_dir}"
        in (caplog.text)
    )
    assert ref in caplog.text
    assert git(repository.git_dir, "diff-tree", "-r", "--name-only", base, ref).split() == ["a.py", "made.py"]
    assert git(repository.git_dir, "show", f"{ref}:a.py") == "a = 2"
    assert git(project, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    second.close()


async def test_work_that_is_pushed_leaves_nothing_to_tell(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository, attempt = await killed_with_work(project, tmp_path / "data")
    (attempt / "tree/made.py").unlink()
    (attempt / "tree/a.py").write_text("a = 1\n")
    (attempt / "tree/src").mkdir()
    for half_written in (".codeframe-x", "src/.codeframe-y"):
        (attempt / "tree" / half_written).write_text("a = ")
    second = DataFolder(tmp_path / "data", Git(os.environ))
    await second.open()
    assert not attempt.exists()
    assert caplog.text == ""
    assert git(repository.git_dir, "for-each-ref", "refs/codeframe") == ""
    second.close()


async def test_a_commit_that_could_not_be_pushed_is_kept(project: Path, tmp_path: Path) -> None:
    repository, attempt = await killed_with_work(project, tmp_path / "data", pushed=False)
    (attempt / "tree/made.py").unlink()
    (attempt / "tree/a.py").write_text("a = 1\n")
    second = DataFolder(tmp_path / "data", Git(os.environ))
    await second.open()
    assert git(repository.git_dir, "rev-parse", "refs/codeframe/kept/run/attempts/a/1") == head(project)
    second.close()


async def test_work_that_cannot_be_kept_stays_where_it_is_told(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository, _ = await killed_with_work(project, tmp_path / "data")
    shutil.rmtree(repository.git_dir)
    second = DataFolder(tmp_path / "data", Git(os.environ))
    await second.open()
    (left,) = (tmp_path / "data/left").iterdir()
    assert (left / "tree/made.py").read_text() == "made = 1\n"
    assert f"what a dead process left stays in {left}: " in caplog.text
    second.close()
