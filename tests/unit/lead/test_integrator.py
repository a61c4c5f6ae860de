"""A run's branches with real git: the base read, candidates stacked, the head moved, nothing else touched."""

import asyncio
import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest

from services.lead.integrator import (
    Integrator,
    Integrators,
    NoSuchBase,
    NotARepository,
    Waiting,
    attempt_branch,
    candidate_branch,
    head_branch,
    ref_safe,
)
from services.lead.machine.task import OwnCommit
from services.runtime.child import ChildAnswer
from services.runtime.git import Git, GitError
from tests.git_project import branches, bytes_of, commit_files, files_at, git, make_project

RUN = "r1"
HEAD = "codeframe/r1/head"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    where = tmp_path / "project"
    make_project(
        where, {"a.py": "one\ntwo\nthree\n", "pkg/pyproject.toml": "[tool.pytest]\n", "b.bin": "\x00"}
    )
    return where


@pytest.fixture
def integrator(project: Path, tmp_path: Path) -> Integrator:
    return Integrators(Git(os.environ), tmp_path / "clones").of(str(project))


class Pushed:
    """Commits as workers push them: made in a clone of the project, each on a base of the test's choice."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.project = project
        self.folder = folder
        git(project, "clone", "--quiet", str(project), str(folder))

    def waiting(self, task: str, base: str, files: dict[str, str | None], number: int = 1) -> Waiting:
        branch = attempt_branch(RUN, task, number)
        git(self.folder, "fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*")
        git(self.folder, "checkout", "--quiet", "--detach", base)
        commit = commit_files(self.folder, files, f"feat({task}): work")
        git(self.folder, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return Waiting(task, OwnCommit(f"{RUN}.{task}.{number}", commit, base), branch, f"do {task}")


@pytest.fixture
def pushed(project: Path, tmp_path: Path) -> Pushed:
    return Pushed(project, tmp_path / "worker")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("1.5.1", "1.5.1"),
        ("a..b", "a%2E.b"),
        ("a.", "a%2E"),
        ("x.lock", "x%2Elock"),
        ("a.locked", "a.locked"),
    ],
)
def test_ids_are_ref_safe_and_stay_apart(name: str, part: str) -> None:
    assert ref_safe(name) == part
    ref = f"refs/heads/{attempt_branch('r', name, 1)}"
    assert git(Path("/"), "check-ref-format", ref) == ""
    git(Path("/"), "check-ref-format", f"refs/heads/codeframe/{part}/head")


@pytest.mark.parametrize("base", ["", "main", "v1", "v1-annotated", "commit"])
async def test_a_base_is_pinned(integrator: Integrator, project: Path, base: str) -> None:
    first = git(project, "rev-parse", "HEAD")
    git(project, "tag", "v1")
    git(project, "tag", "-a", "-m", "annotated", "v1-annotated")
    if base in ("v1", "v1-annotated", "commit"):
        commit_files(project, {"later.py": ""})
    assert await integrator.pin(first if base == "commit" else base) == first


@pytest.mark.parametrize(
    "base", ["nope", "main*", "0" * 40, "--upload-pack=x", "refs/heads/main~1", "HEAD^{tree}"]
)
async def test_a_base_that_names_nothing_is_refused(integrator: Integrator, base: str) -> None:
    with pytest.raises(NoSuchBase, match=r"no .*commit"):
        await integrator.pin(base)


async def test_a_repository_that_is_none_is_refused(tmp_path: Path) -> None:
    integrators = Integrators(Git(os.environ), tmp_path / "clones")
    (tmp_path / "folder").mkdir()
    make_empty = tmp_path / "empty"
    make_empty.mkdir()
    git(make_empty, "init", "--quiet")
    for path, error in ((tmp_path / "gone", NotARepository), (tmp_path / "folder", NotARepository)):
        with pytest.raises(error, match=path.name):
            await integrators.of(str(path)).pin("")
    with pytest.raises(NoSuchBase, match="make one first"):
        await integrators.of(str(make_empty)).pin("")


async def test_the_tree_gives_paths_and_the_files_that_tell(integrator: Integrator, project: Path) -> None:
    tree = await integrator.tree(await integrator.pin(""))
    assert set(tree.paths) == {"a.py", "pkg/pyproject.toml", "b.bin"}
    assert tree.read("pkg/pyproject.toml") == "[tool.pytest]\n"
    assert tree.read("a.py") is None


async def test_commits_are_stacked_in_order_and_pushed(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    one, two = (pushed.waiting(name, base, {f"{name}.py": name}) for name in ("x", "y"))
    stack = await integrator.stack(RUN, 1, base, [one, two])
    assert stack.tasks == ("x", "y")
    assert not stack.conflicts
    assert branches(project)[candidate_branch(RUN, 1)] == stack.commit
    assert files_at(project, stack.commit) == {"a.py", "b.bin", "pkg/pyproject.toml", "x.py", "y.py"}
    assert git(project, "rev-parse", f"{stack.commit}^{{tree}}") == stack.tree
    assert git(project, "log", "-1", "--format=%s", stack.commit) == "merge(y): do y"
    assert one.own.commit in git(project, "rev-list", stack.commit).split()


async def test_a_commit_on_the_head_itself_is_taken_as_it_is(integrator: Integrator, pushed: Pushed) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    one = pushed.waiting("x", base, {"x.py": "x"})
    assert (await integrator.stack(RUN, 1, base, [one])).commit == one.own.commit


async def test_a_conflict_with_the_head_names_file_and_lines(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    mine = pushed.waiting("x", base, {"a.py": "one\nmine\nthree\n"})
    theirs = pushed.waiting("y", base, {"a.py": "one\ntheirs\nthree\n"})
    first = await integrator.stack(RUN, 1, base, [mine])
    assert await integrator.move_head(RUN, base, first.commit)
    stack = await integrator.stack(RUN, 2, first.commit, [theirs])
    assert not stack.tasks
    assert candidate_branch(RUN, 2) not in branches(project)
    assert "a.py" in stack.conflicts["y"]
    assert "theirs" in stack.conflicts["y"]
    assert "mine" in stack.conflicts["y"]


async def test_a_conflict_with_what_is_stacked_before_waits(integrator: Integrator, pushed: Pushed) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    waiting = [pushed.waiting(name, base, {"a.py": f"{name}\n"}) for name in ("x", "y")]
    waiting.append(pushed.waiting("z", base, {"z.py": ""}))
    stack = await integrator.stack(RUN, 1, base, waiting)
    assert stack.tasks == ("x", "z")
    assert not stack.conflicts


async def test_a_long_conflict_is_clipped(integrator: Integrator, pushed: Pushed) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    many = {f"f{number}.txt": "mine\n" * 200 for number in range(200)}
    first = await integrator.stack(RUN, 1, base, [pushed.waiting("x", base, dict(many))])
    await integrator.move_head(RUN, base, first.commit)
    other = pushed.waiting("y", base, dict.fromkeys(many, "theirs\n" * 200))
    stack = await integrator.stack(RUN, 2, first.commit, [other])
    assert len(stack.conflicts["y"]) <= 9000


async def test_the_users_merge_driver_hides_no_conflict(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    commit_files(project, {".gitattributes": "* merge=union\n"})
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    first = await integrator.stack(RUN, 1, base, [pushed.waiting("x", base, {"a.py": "mine\n"})])
    await integrator.move_head(RUN, base, first.commit)
    stack = await integrator.stack(RUN, 2, first.commit, [pushed.waiting("y", base, {"a.py": "theirs\n"})])
    assert "y" in stack.conflicts


async def test_the_head_moves_by_compare_and_swap(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    to = pushed.waiting("x", base, {"x.py": ""}).own.commit
    assert await integrator.move_head(RUN, base, to)
    assert branches(project)[HEAD] == to
    assert await integrator.move_head(RUN, base, to), "asked again after a crash, it is there already"
    further = pushed.waiting("z", to, {"z.py": ""}).own.commit
    git(project, "update-ref", f"refs/heads/{HEAD}", further)
    assert await integrator.move_head(RUN, base, to), "the head contains it"


async def test_a_head_that_somebody_else_moved_is_left(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    to = pushed.waiting("x", base, {"x.py": ""}).own.commit
    foreign = commit_files(project, {"foreign.py": ""})
    git(project, "update-ref", f"refs/heads/{HEAD}", foreign)
    assert not await integrator.move_head(RUN, base, to)
    assert branches(project)[HEAD] == foreign
    git(project, "update-ref", "-d", f"refs/heads/{HEAD}")
    assert not await integrator.move_head(RUN, base, to)


@pytest.mark.parametrize("bare", [False, True])
async def test_a_stale_lock_of_ours_is_removed(
    tmp_path: Path, project: Path, pushed: Pushed, bare: bool
) -> None:
    url = project
    if bare:
        url = tmp_path / "bare.git"
        git(project, "clone", "--quiet", "--bare", str(project), str(url))
        pushed.project = url
        git(pushed.folder, "remote", "set-url", "origin", str(url))
    integrator = Integrators(Git(os.environ), tmp_path / "clones").of(str(url))
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    to = pushed.waiting("x", base, {"x.py": ""}).own.commit
    lock = (url if bare else url / ".git") / "refs" / "heads" / f"{HEAD}.lock"
    lock.touch()
    os.utime(lock, (time.time() - 60, time.time() - 60))
    assert await integrator.move_head(RUN, base, to)
    assert not lock.exists()


async def test_a_repository_that_is_away_is_an_error_not_an_answer(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    to = pushed.waiting("x", base, {"x.py": ""}).own.commit
    away = project.with_name("away")
    project.rename(away)
    with pytest.raises(GitError):
        await integrator.move_head(RUN, base, to)
    away.rename(project)
    assert await integrator.move_head(RUN, base, to)


async def test_the_run_branch_is_opened_once(integrator: Integrator, project: Path) -> None:
    base = await integrator.pin("")
    assert await integrator.open_branch(RUN, base) == head_branch(RUN) == HEAD
    assert await integrator.open_branch(RUN, base) == HEAD
    assert branches(project) == {HEAD: base}


async def test_merged_branches_are_deleted_and_one_that_is_gone_is_fine(
    integrator: Integrator, project: Path, pushed: Pushed
) -> None:
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    branch = pushed.waiting("x", base, {"x.py": ""}).branch
    await integrator.delete([branch, candidate_branch(RUN, 7)])
    assert branches(project) == {HEAD: base}


async def test_nothing_of_the_users_is_touched_and_no_hook_runs(
    integrator: Integrator, project: Path, pushed: Pushed, tmp_path: Path
) -> None:
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "pre-push"):
        hook = project / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n")
        hook.chmod(0o755)
    (project / "uncommitted.py").write_text("mine")
    (project / "a.py").write_text("edited and staged")
    git(project, "add", "a.py")
    base_of_run = await integrator.pin("")
    hooks_before = set(tmp_path.glob("ran-*"))
    one = pushed.waiting("x", base_of_run, {"x.py": ""})
    for made in tmp_path.glob("ran-*"):
        made.unlink()
    before = bytes_of(project)
    await integrator.open_branch(RUN, base_of_run)
    stack = await integrator.stack(RUN, 1, base_of_run, [one])
    await integrator.move_head(RUN, base_of_run, stack.commit)
    await integrator.delete([one.branch, candidate_branch(RUN, 1)])
    assert bytes_of(project) == before
    assert not hooks_before
    assert not list(tmp_path.glob("ran-*"))


class CutGit(Git):
    """Real git. Whoever has it run its command number `at` is cancelled, `after` so many seconds of it."""

    def __init__(self, after: float) -> None:
        super().__init__(os.environ)
        self.asked = self.at = 0
        self._after = after

    async def ask(self, *arguments: str, **how: Any) -> ChildAnswer:
        self.asked += 1
        if self.asked == self.at:
            caller = asyncio.current_task()
            assert caller
            if self._after:
                asyncio.get_running_loop().call_later(self._after, caller.cancel)
            else:
                caller.cancel()  # of this very command: git is begun, and ended at once
        return await super().ask(*arguments, **how)


@pytest.mark.parametrize("after", [0.0, 0.002])
async def test_a_stack_that_is_cancelled_at_any_step_leaves_nothing_that_hinders_the_next(
    tmp_path: Path, project: Path, pushed: Pushed, after: float
) -> None:
    cutting = CutGit(after)
    integrator = Integrators(cutting, tmp_path / "clones").of(str(project))
    base = await integrator.pin("")
    await integrator.open_branch(RUN, base)
    waiting = [pushed.waiting(f"t{number}", base, {f"t{number}.py": ""}) for number in range(4)]
    cancelled = 0
    for step in itertools.count(1):
        cutting.asked, cutting.at = 0, step
        stacking = asyncio.create_task(integrator.stack(RUN, 1, base, waiting))
        await asyncio.wait([stacking])
        cancelled += stacking.cancelled()
        if cutting.asked < step:
            break
        assert after or stacking.cancelled()
    assert cancelled > 10
    assert (await stacking).tasks == ("t0", "t1", "t2", "t3")
    assert branches(project)[candidate_branch(RUN, 1)] == (await stacking).commit
