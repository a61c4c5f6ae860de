"""A run's branches in its repository: the base read, candidates stacked, the head moved.

Only `refs/heads/codeframe/*` are written. A refused update is judged by reading the ref,
never by an exit code.
"""

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.lead.machine.task import OwnCommit
from services.lead.tree import Tree
from services.runtime.clone import Clone, clone_folder
from services.runtime.git import CommitNotFound, Git, GitError, explain

log = structlog.get_logger()

CONFIGURATION = frozenset(
    {"codeframe.toml", "package.json", "pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "Cargo.toml"}
    | {"Makefile", "makefile", "GNUmakefile", "go.work"}
)
"""Names of the files whose text tells how a tree is verified."""

_CONFIGURATION_LIMIT = 200
_CONFLICT_LIMIT = 8000
_CONFLICT_FILES = 10
_STALE_LOCK_SECONDS = 10.0
_PUSH_PAUSES = (0.2, 1.0, 2.0, 5.0)


class NotARepository(GitError):
    """The URL or path names no git repository that can be read."""


class NoSuchBase(GitError):
    """The repository has no such branch, tag or commit."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A commit that waits to be merged: its task, and the line that the merge is told with."""

    task_id: str
    own: OwnCommit
    branch: str
    title: str


@dataclass(frozen=True, slots=True)
class Stack:
    """What stacking made: a commit and its tree, the tasks in it, and conflicts with the head by task."""

    commit: str
    tree: str
    tasks: tuple[str, ...]
    conflicts: dict[str, str]


def head_branch(run_id: str) -> str:
    """The branch that holds what a run completed."""
    return f"codeframe/{ref_safe(run_id)}/head"


def candidate_branch(run_id: str, number: int) -> str:
    """The branch of a run's candidate."""
    return f"codeframe/{ref_safe(run_id)}/next/{number}"


def attempt_branch(run_id: str, task_id: str, number: int) -> str:
    """The branch that an attempt pushes to."""
    return f"codeframe/{ref_safe(run_id)}/attempts/{ref_safe(task_id)}/{number}"


def ref_safe(name: str) -> str:
    """An id as a part of a ref name: git allows neither ".." nor an ending of "." or ".lock"."""
    return re.sub(r"\.(?=\.|$|lock$)", "%2E", name)


class Integrator:
    """The lead's side of one repository."""

    def __init__(self, clone: Clone) -> None:
        self._clone = clone

    async def pin(self, base: str) -> str:
        """The commit that a branch, tag or commit id names now (empty: HEAD), fetched.

        Raises NotARepository and NoSuchBase.
        """
        try:
            listed = await self._listed(base)
        except GitError as error:
            raise NotARepository(await self._clone.why_unreadable(error)) from None
        if not base and not listed:
            raise NoSuchBase(f"{self._clone.url} has no commit; make one first")
        commit = listed or (base if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", base) else "")
        if not commit:
            raise NoSuchBase(f"{self._clone.url} has no branch, tag or commit {base!r}")
        try:
            await self._clone.obtain(commit, base if listed else "")
        except CommitNotFound:
            raise NoSuchBase(f"{self._clone.url} has no commit {commit}") from None
        return commit

    async def _listed(self, base: str) -> str:
        """What the remote lists for a name: a branch before a tag, a tag by the commit it points to."""
        names = [f"refs/heads/{base}", f"refs/tags/{base}^{{}}", f"refs/tags/{base}"] if base else ["HEAD"]
        answer = await self._clone.list_remote(*names)
        lines = (line.partition("\t") for line in answer.splitlines())
        found = {name: commit for commit, _, name in lines}
        return next((found[name] for name in names if name in found), "")

    async def tree(self, commit: str) -> Tree:
        """The files of a commit, with the text of those that tell how it is verified. Raises GitError."""
        listing = await self._clone.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        paths = frozenset(path.decode(errors="surrogateescape") for path in listing.split(b"\0") if path)
        wanted = sorted(
            (path for path in paths if path.rpartition("/")[2] in CONFIGURATION),
            key=lambda path: (path.count("/"), path),
        )[:_CONFIGURATION_LIMIT]
        texts: dict[str, str] = {}
        for path in wanted:
            answer = await self._clone.ask("cat-file", "blob", f"{commit}:{path}", limit=1 << 20)
            if not answer.exit_code and not answer.clipped:
                texts[path] = answer.stdout.decode(errors="replace")
        return Tree(paths, texts.get)

    async def open_branch(self, run_id: str, base: str) -> str:
        """Make the run's branch at its base, which also keeps the base reachable. Raises GitError."""
        branch = head_branch(run_id)
        if await self._clone.tip(branch) != base:
            await self._clone.push(base, branch, "")
        return branch

    async def close_branch(self, run_id: str, base: str) -> None:
        """Delete the branch of a run that was not made, unless it left its base. Raises GitError."""
        branch = head_branch(run_id)
        if await self._clone.tip(branch) == base:
            await self._clone.push("", branch, base)

    async def tree_of(self, commit: str, branch: str) -> str:
        """The tree of a commit that a worker pushed. Raises GitError."""
        await self._clone.obtain(commit, branch)
        return await self._clone.tree(commit)

    async def tip(self, branch: str) -> str:
        """The commit of a branch, empty where there is none. Raises GitError."""
        return await self._clone.tip(branch)

    async def stack(self, run_id: str, number: int, onto: str, waiting: Sequence[Waiting]) -> Stack:
        """Merge waiting commits onto the head, in order, and push what they make as a candidate.

        A commit that conflicts with the head itself is a conflict; one that conflicts only with
        what is stacked before it is left out, for the next candidate. Raises GitError.
        """
        await self._clone.obtain(onto, head_branch(run_id))
        commit, tasks, conflicts = onto, list[str](), dict[str, str]()
        for each in waiting:
            await self._clone.obtain(each.own.commit, each.branch)
            tree, conflict = await self._merge(commit, each.own.commit)
            if not conflict:
                commit = await self._record(tree, commit, each)
                tasks.append(each.task_id)
            elif commit == onto:
                conflicts[each.task_id] = conflict
            else:
                _, alone = await self._merge(onto, each.own.commit)
                if alone:
                    conflicts[each.task_id] = alone
        if tasks:
            branch = candidate_branch(run_id, number)
            self._clear_stale_lock(branch)
            await self._clone.push(commit, branch, await self._clone.tip(branch))
        tree = await self._clone.tree(commit)
        return Stack(commit, tree, tuple(tasks), conflicts)

    async def _merge(self, ours: str, theirs: str) -> tuple[str, str]:
        """The merged tree, or the text of the conflict."""
        answer = await self._clone.ask("merge-tree", "--write-tree", "--name-only", ours, theirs)
        text = answer.stdout.decode(errors="replace")
        if answer.exit_code == 0:
            return text.split("\n", 1)[0].strip(), ""
        if answer.exit_code == 1:
            return "", await self._explained(text)
        raise GitError(f"git merge-tree: {explain(answer)}")

    async def _explained(self, conflict: str) -> str:
        """What merge-tree said of a conflict, with the lines that conflict, clipped for people."""
        head, _, messages = conflict.partition("\n\n")
        tree, *names = head.splitlines()
        told = [f"conflict with what was merged meanwhile, in {', '.join(names)}:", messages.rstrip()]
        for name in names[:_CONFLICT_FILES]:
            answer = await self._clone.ask("cat-file", "blob", f"{tree}:{name}", limit=1 << 20)
            told += [f"{name}:\n{hunk}" for hunk in _hunks(answer.stdout.decode(errors="replace"))]
        return "\n\n".join(told)[:_CONFLICT_LIMIT]

    async def _record(self, tree: str, onto: str, waiting: Waiting) -> str:
        """The merge commit; the task's own commit where it was made on this very head."""
        base = (await self._clone.run("merge-base", onto, waiting.own.commit)).decode().strip()
        if base == onto:
            return waiting.own.commit
        message = f"merge({waiting.task_id}): {waiting.title}\n\nCodeframe-Task: {waiting.task_id}\n"
        parents = ("-p", onto, "-p", waiting.own.commit)
        made = await self._clone.run("commit-tree", *parents, tree, "-F", "-", stdin=message.encode())
        return made.decode().strip()

    async def move_head(self, run_id: str, start: str, to: str) -> bool:
        """Move the head from `start` to `to`; whether it holds `to`. False: somebody else moved it.

        Idempotent. Raises GitError while the repository cannot be reached.
        """
        branch = head_branch(run_id)
        for pause in _PUSH_PAUSES:
            tip = await self._clone.tip(branch)
            if tip == to or (tip and tip != start and await self._contains(branch, tip, to)):
                return True
            if tip != start:
                return False
            try:
                await self._clone.obtain(to)
                await self._clone.push(to, branch, start)
            except GitError as error:
                log.warning("the head could not be moved; trying again", run=run_id, error=str(error))
                self._clear_stale_lock(branch)
                await asyncio.sleep(pause)
        raise GitError(f"{branch} could not be moved in {self._clone.url}, though nobody else moved it")

    async def _contains(self, branch: str, tip: str, commit: str) -> bool:
        await self._clone.obtain(tip, branch)
        answer = await self._clone.ask("merge-base", "--is-ancestor", commit, tip)
        return answer.exit_code == 0

    def _clear_stale_lock(self, branch: str) -> None:
        """Remove what a child of ours that was killed inside its update left behind."""
        for git_dir in self._clone.local_git_dirs():
            lock = git_dir / "refs" / "heads" / f"{branch}.lock"
            try:
                if time.time() - lock.stat().st_mtime > _STALE_LOCK_SECONDS:
                    lock.unlink()
                    log.warning("removed a stale lock", lock=str(lock))
            except OSError:
                continue  # no lock there, or not ours to remove: the push says what is wrong

    async def clear_up(self, run_id: str, merged: Collection[str]) -> None:
        """Delete a run's candidates that are left, and what is left of `merged` branches.

        What cannot be deleted is said and left.
        """
        candidates = candidate_branch(run_id, 0)[:-1]
        try:
            listed = await self._clone.list_remote(f"refs/heads/codeframe/{ref_safe(run_id)}/*")
        except GitError as error:
            log.warning("branches were left behind", run=run_id, error=str(error))
            return
        names = {line.partition("\t")[2].removeprefix("refs/heads/") for line in listed.splitlines()}
        await self.delete(name for name in names if name.startswith(candidates) or name in merged)

    async def delete(self, branches: Iterable[str]) -> None:
        """Delete branches that are merged. What cannot be deleted is said and left."""
        try:
            await self._clone.delete(branches)
        except GitError as error:
            log.warning("merged branches were left behind", error=str(error))


def _hunks(text: str) -> Iterator[str]:
    """The parts between conflict markers, with the markers."""
    hunk: list[str] | None = None
    for line in text.splitlines():
        if line.startswith("<<<<<<< "):
            hunk = []
        if hunk is not None:
            hunk.append(line)
        if hunk and line.startswith(">>>>>>> "):
            yield "\n".join(hunk)
            hunk = None


class Integrators:
    """One Integrator a repository, on bare clones in the lead's data folder."""

    def __init__(self, git: Git, folder: Path) -> None:
        self._git = git
        self._folder = folder
        self._known: dict[str, Integrator] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, url: str) -> Integrator:
        """The integrator of a repository; nothing is cloned yet."""
        if url not in self._known:
            self._known[url] = Integrator(Clone(self._git, url, self._folder / clone_folder(url)))
        return self._known[url]
