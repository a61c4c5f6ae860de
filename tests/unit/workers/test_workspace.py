"""A worktree, its commits, and the user's repository, with real git."""

import asyncio
import hashlib
import os
import select
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.git import CommitNotFound, Git, GitError
from services.workers.work import FileChange
from services.workers.workspace import DataFolder, DataFolderError, Repository, TooManyChanges, Worktree
from tests.git_project import bytes_of, commit_files, git, make_project

BRANCH = "codeframe/run/attempts/task/1"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make_project(tmp_path / "project", {"a.py": "a = 1\n", "src/b.py": "b = 1\n", ".gitignore": "*.log\n"})
    return tmp_path / "project"


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataFolder]:
    folder = DataFolder(tmp_path / "data", Git(os.environ))
    await folder.open()
    yield folder
    folder.close()


def head(project: Path) -> str:
    return git(project, "rev-parse", "HEAD")


async def check_out(data: DataFolder, project: Path, commit: str = "") -> tuple[Repository, Worktree]:
    repository = data.repository(str(project))
    await repository.obtain(commit or head(project))
    worktree = data.worktree(repository, data.attempt("one") / "tree")
    await worktree.check_out(commit or head(project))
    return repository, worktree


async def test_a_worktree_holds_the_files_and_no_git_directory(data: DataFolder, project: Path) -> None:
    (project / "a.py").chmod(0o755)
    (project / "link").symlink_to("/etc/passwd")
    commit_files(project, {})
    _, worktree = await check_out(data, project)
    assert sorted(path.name for path in worktree.root.iterdir()) == [".gitignore", "a.py", "link", "src"]
    assert os.readlink(worktree.root / "link") == "/etc/passwd"
    assert os.access(worktree.root / "a.py", os.X_OK)


async def test_changes_become_a_commit_and_a_branch_of_the_users_repository(
    data: DataFolder, project: Path
) -> None:
    repository, worktree = await check_out(data, project)
    base = head(project)
    (worktree.root / "a.py").unlink()
    (worktree.root / "src/b.py").write_text("b = 2\n")
    (worktree.root / "src/new ü.py").write_text("c = 3\n")
    (worktree.root / "noise.log").write_text("ignored")
    commit = await repository.record(
        await worktree.tree(), base, "feat(task): title\n\nCodeframe-Task: task\n"
    )
    await repository.push(commit, BRANCH, "")
    assert git(project, "rev-parse", BRANCH) == commit
    assert git(project, "rev-parse", f"{BRANCH}^") == base
    assert git(
        project, "log", "-1", "--format=%an <%ae> %cn %s %(trailers:key=Codeframe-Task,valueonly)", BRANCH
    ) == ("codeframe <codeframe@localhost> codeframe feat(task): title task")
    assert await repository.changes(base, commit) == (
        FileChange("a.py", "deleted", "100644", ""),
        FileChange("src/b.py", "modified", "100644", "100644"),
        FileChange("src/new ü.py", "created", "", "100644"),
    )
    assert await repository.files(commit) == {".gitignore", "src/b.py", "src/new ü.py"}
    assert await repository.subject(commit) == "feat(task): title"
    patch, clipped = await repository.diff(base, commit, 1 << 20)
    assert not clipped
    assert "-b = 1\n+b = 2\n" in patch.decode()
    assert await repository.diff(base, commit, 50) == (patch[:50], True)


async def test_nothing_changed_is_the_same_tree(data: DataFolder, project: Path) -> None:
    repository, worktree = await check_out(data, project)
    (worktree.root / "noise.log").write_text("ignored")
    assert await worktree.tree() == await repository.tree(head(project))


async def test_the_users_repository_stays_as_it_was_byte_for_byte(
    data: DataFolder, project: Path, tmp_path: Path
) -> None:
    git(project, "branch", "other")
    for hook in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "pre-push"):
        script = project / ".git/hooks" / hook
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
        script.chmod(0o755)
    git(project, "config", "receive.autogc", "true")
    git(project, "config", "gc.auto", "1")
    (project / "a.py").write_text("not committed\n")
    (project / "untracked").write_text("mine\n")
    ours = (".git/objects/", ".git/refs/heads/codeframe/", ".git/logs/refs/heads/codeframe/")
    before, refs = bytes_of(project, ours), git(project, "for-each-ref")

    repository, worktree = await check_out(data, project)
    (worktree.root / "a.py").write_text("a = 2\n")
    commit = await repository.record(await worktree.tree(), head(project), "feat(task): title")
    await repository.push(commit, BRANCH, "")

    assert bytes_of(project, ours) == before
    assert [line for line in git(project, "for-each-ref").splitlines() if "codeframe" not in line] == (
        refs.splitlines()
    )
    assert not (tmp_path / "hook-ran").exists()


async def test_programs_named_by_the_project_or_a_planted_git_directory_never_run(
    data: DataFolder, project: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    module = tmp_path / "module"
    module.mkdir()
    git(module, "init", "--quiet")
    commit_files(module, {"m.py": "m = 1\n"})
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(module), "sub")
    commit_files(project, {".gitattributes": "*.py filter=evil diff=evil merge=evil\n"})
    repository, worktree = await check_out(data, project)
    assert list((worktree.root / "sub").iterdir()) == []
    for folder in (worktree.root, worktree.root / "sub", worktree.root / "nested"):
        folder.mkdir(exist_ok=True)
        git(folder, "init", "--quiet")
        for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv"):
            git(folder, "config", key, f"touch {ran}; cat #")
        (folder / "x.py").write_text("x = 1\n")
        (folder / ".gitattributes").write_text("*.py filter=evil\n")
        git(folder, "-c", "core.fsmonitor=", "-c", "filter.evil.clean=cat", "add", "x.py")
        git(folder, "-c", "core.fsmonitor=", "-c", "filter.evil.clean=cat", "commit", "-qm", "x")
        (folder / "x.py").write_text("x = 2\n")
    commit = await repository.record(await worktree.tree(), head(project), "feat(task): title")
    await repository.diff(head(project), commit, 1 << 20)
    await worktree.ask("diff", limit=1 << 20, timeout=10)
    assert not ran.exists()
    changes = {change.path for change in await repository.changes(head(project), commit)}
    assert changes == {".gitattributes", "x.py"}


async def test_a_tracked_folder_may_become_a_symlink(data: DataFolder, project: Path) -> None:
    repository, worktree = await check_out(data, project)
    (worktree.root / "src/b.py").unlink()
    (worktree.root / "src").rmdir()
    (worktree.root / "src").symlink_to("/etc")
    commit = await repository.record(await worktree.tree(), head(project), "feat(task): title")
    assert await repository.changes(head(project), commit) == (
        FileChange("src", "created", "", "120000"),
        FileChange("src/b.py", "deleted", "100644", ""),
    )


async def test_what_is_lent_is_put_back(data: DataFolder, project: Path) -> None:
    _, worktree = await check_out(data, project)
    root = worktree.root
    (root / "new.py").write_text("the agent's")
    (root / "a.py").write_text("the agent's")
    before, files = await worktree.tree(), bytes_of(root, without=())
    async with worktree.lent():
        (root / "a.py").unlink()
        (root / "a.py").mkdir()
        (root / "a.py" / "inside").touch()
        (root / "new.py").unlink()
        (root / "src" / "b.py").chmod(0o755)
        (root / "src" / "b.py").write_text("b = 2\n")
        (root / "link").symlink_to("/etc")
        (root / "kept.log").write_text("ignored")
        (root / "nested").mkdir()
        git(root / "nested", "init", "--quiet")
        (root / "nested" / "file").touch()
        (root / "locked").mkdir()
        (root / "locked" / "file").touch()
        (root / "locked").chmod(0o500)
    (root / "kept.log").unlink()
    assert bytes_of(root, without=()) == files
    assert not (root / "locked").exists()
    assert await worktree.tree() == before


async def write_half(worktree: Worktree) -> None:
    async with worktree.lent():
        (worktree.root / "a.py").write_text("half of it")
        (worktree.root / "half").touch()
        raise TimeoutError


async def test_what_was_lent_to_a_command_that_was_cut_off_is_put_back_first(
    data: DataFolder, project: Path
) -> None:
    repository, worktree = await check_out(data, project)
    with pytest.raises(TimeoutError):
        await write_half(worktree)
    assert await worktree.tree() == await repository.tree(head(project))
    assert not (worktree.root / "half").exists()


async def test_an_index_lock_of_a_killed_git_does_no_harm(data: DataFolder, project: Path) -> None:
    repository, worktree = await check_out(data, project)
    worktree.root.with_name("tree.index.lock").touch()
    assert await worktree.tree() == await repository.tree(head(project))


async def test_a_push_moves_a_branch_only_from_where_it_is_expected(data: DataFolder, project: Path) -> None:
    repository, worktree = await check_out(data, project)
    base = head(project)
    (worktree.root / "a.py").write_text("a = 2\n")
    first = await repository.record(await worktree.tree(), base, "first")
    await repository.push(first, BRANCH, "")
    await repository.push(first, BRANCH, "")  # as after an answer that was lost
    second = await repository.record(await worktree.tree(), base, "second")
    with pytest.raises(GitError, match="cannot push codeframe/run"):
        await repository.push(second, BRANCH, "")
    await repository.push(second, BRANCH, first)
    assert await repository.tip(BRANCH) == second
    assert await repository.tip("codeframe/none") == ""


async def test_a_commit_is_fetched_by_its_branch_or_bare(data: DataFolder, project: Path) -> None:
    repository, _ = await check_out(data, project)
    git(project, "checkout", "--quiet", "-b", BRANCH)
    pushed = commit_files(project, {"c.py": "c = 1\n"})
    await repository.obtain(pushed, BRANCH)
    git(project, "checkout", "--quiet", "main")
    git(project, "branch", "-D", BRANCH)
    git(project, "branch", "codeframe/run")  # a folder's name becomes a branch's
    loose = git(project, "commit-tree", "-p", pushed, "HEAD^{tree}", stdin="not on any branch")
    await repository.obtain(loose, "codeframe/run")
    assert await repository.files(loose) == {".gitignore", "a.py", "src/b.py"}


async def test_many_may_ask_for_a_commit_at_once(data: DataFolder, project: Path) -> None:
    repository = data.repository(str(project))
    await asyncio.gather(*(repository.obtain(head(project)) for _ in range(10)))
    assert await repository.tree(head(project)) == git(project, "rev-parse", "HEAD^{tree}")


async def test_a_missing_commit_or_repository_is_named(
    data: DataFolder, project: Path, tmp_path: Path
) -> None:
    repository, missing = data.repository(str(project)), "f" * 40
    with pytest.raises(CommitNotFound, match=f"project has no commit {missing}"):
        await repository.obtain(missing, "codeframe/none")
    with pytest.raises(GitError, match=r"cannot fetch from .*/nowhere: .*not appear to be a git repository"):
        await data.repository(str(tmp_path / "nowhere")).obtain(missing)


@pytest.mark.parametrize("url", ["ext::sh -c 'touch {ran}'", "--upload-pack=touch {ran};"])
async def test_a_repository_cannot_be_a_command(data: DataFolder, tmp_path: Path, url: str) -> None:
    with pytest.raises(GitError):
        await data.repository(url.format(ran=tmp_path / "ran")).obtain("f" * 40)
    assert not (tmp_path / "ran").exists()


async def test_a_shallow_repository_serves(data: DataFolder, project: Path, tmp_path: Path) -> None:
    commit_files(project, {"a.py": "a = 2\n"})
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{project}", "shallow")
    shallow = tmp_path / "shallow"
    repository, worktree = await check_out(data, shallow)
    (worktree.root / "a.py").write_text("a = 3\n")
    commit = await repository.record(await worktree.tree(), head(shallow), "feat(task): title")
    await repository.push(commit, BRANCH, "")
    assert git(shallow, "rev-parse", BRANCH) == commit


async def test_a_change_has_modes_and_digests_of_its_bytes_before_and_after(
    data: DataFolder, project: Path
) -> None:
    long = "x" * 3_000_000 + "\n"
    before = commit_files(project, {"kept": "kept\n", "mode": "mode\n", "gone": "", "text": "one\n"})
    (project / "mode").chmod(0o755)
    (project / "gone").unlink()
    (project / "link").symlink_to("kept")
    after = commit_files(project, {"text": long, "new": "no line break"})
    repository, _ = await check_out(data, project, after)
    changes = {change.path: change for change in await repository.digested(before, after)}
    digest = {
        text: hashlib.sha256(text.encode()).hexdigest() for text in ("", "mode\n", "one\n", long, "kept")
    }
    new = hashlib.sha256(b"no line break").hexdigest()
    assert changes == {
        "gone": FileChange("gone", "deleted", "100644", "", digest[""], ""),
        "link": FileChange("link", "created", "", "120000", "", digest["kept"]),
        "mode": FileChange("mode", "modified", "100644", "100755", digest["mode\n"], digest["mode\n"]),
        "new": FileChange("new", "created", "", "100644", "", new),
        "text": FileChange("text", "modified", "100644", "100644", digest["one\n"], digest[long]),
    }


async def test_more_changes_than_a_result_names_are_refused(data: DataFolder, project: Path) -> None:
    repository, worktree = await check_out(data, project)
    for number in range(5001):
        (worktree.root / f"{number}.txt").touch()
    commit = await repository.record(await worktree.tree(), head(project), "feat(task): title")
    with pytest.raises(TooManyChanges, match="more than 5000 files"):
        await repository.changes(head(project), commit)


async def test_one_worker_has_the_folder_and_leftovers_of_the_dead_go(project: Path, tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data", Git(os.environ))
    await first.open()
    repository, worktree = await check_out(first, project)
    (worktree.root / "locked").mkdir()
    (worktree.root / "locked/file").touch()
    (worktree.root / "locked").chmod(0)
    (repository.git_dir / "packed-refs.lock").touch()
    second = DataFolder(tmp_path / "data", Git(os.environ))
    with pytest.raises(DataFolderError, match=r"another worker uses .*--data-dir"):
        await second.open()
    first.close()
    await second.open()
    assert not worktree.root.exists()
    assert not (repository.git_dir / "packed-refs.lock").exists()
    await second.repository(str(project)).obtain(head(project))
    second.close()


async def test_a_cancelled_git_is_dead_before_the_cancel_is_told(data: DataFolder, tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    repository = data.repository(f"ssh://nobody@127.0.0.1:1{tmp_path}")
    waiting = Git({"PATH": os.environ["PATH"], "GIT_SSH_COMMAND": f"echo $$ > {started}; exec sleep 600 #"})
    repository = Repository(waiting, repository.url, repository.git_dir)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(repository.obtain("f" * 40))
        reader = await asyncio.create_subprocess_exec("cat", str(started), stdout=asyncio.subprocess.PIPE)
        pid = int((await reader.communicate())[0])
        ending = os.pidfd_open(pid)
        task.cancel()
        await asyncio.wait([task])
    # Its group was told to die before the cancel was; the kernel may need a moment for a grandchild.
    assert select.select([ending], [], [], 10)[0]
    os.close(ending)
