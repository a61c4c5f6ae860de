"""A bare clone of a repository: commits come in, ours go out, and nothing of the user's is touched."""

import asyncio
import hashlib
import os
import shlex
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from services.runtime.child import ChildAnswer
from services.runtime.git import NETWORK_TIMEOUT, CommitNotFound, Git, GitError, explain

_ORIGIN = "refs/origin/"  # where the remote's branches are kept, apart from any of our own


class Clone:
    """One bare clone. What it fetches stays: nothing here ever collects garbage."""

    def __init__(self, git: Git, url: str, git_dir: Path) -> None:
        self.url = url
        self.git_dir = git_dir
        self._git = git
        self._fetching = asyncio.Lock()

    @property
    def is_local(self) -> bool:
        """Whether a push runs its other half on this machine, as we tell it to."""
        head = self.url.partition("/")[0]
        return self.url.startswith("file://") or ("://" not in self.url and ":" not in head)

    async def run(self, *arguments: str, stdin: bytes = b"", timeout: float = 300.0) -> bytes:
        """Run git on the clone, without any worktree. Raises GitError."""
        where = f"--git-dir={self.git_dir}"
        return await self._git.run(where, *arguments, cwd=self.git_dir, stdin=stdin, timeout=timeout)

    async def pour(self, *arguments: str, stdin: bytes, sink: Callable[[bytes], None]) -> None:
        """Run git on the clone, and hand its stdout on as it comes. Raises GitError."""
        where = f"--git-dir={self.git_dir}"
        answer = await self._git.ask(where, *arguments, cwd=self.git_dir, stdin=stdin, sink=sink)
        if answer.exit_code:
            raise GitError(f"git {arguments[0]}: {explain(answer)}")

    async def ask(self, *arguments: str, limit: int = 64 << 20, timeout: float = 300.0) -> ChildAnswer:
        """Run git on the clone and return what it said, whatever its exit code. Raises GitError."""
        where = f"--git-dir={self.git_dir}"
        return await self._git.ask(where, *arguments, cwd=self.git_dir, limit=limit, timeout=timeout)

    async def obtain(self, commit: str, branch: str = "") -> None:
        """Have a commit here: where it is missing, fetch its branch, then every branch, then the bare commit.

        One at a time; the others find it fetched. Raises CommitNotFound where the repository does not give
        it, GitError where the repository cannot be reached.
        """
        async with self._fetching:
            if not self.git_dir.exists():
                await self._create(len(commit))
            if await self._has(commit):
                return
            if branch:
                await self._fetch(f"+refs/heads/{branch}:{_ORIGIN}{branch}")  # may be gone by now
                if await self._has(commit):
                    return
            answer = await self._fetch(f"+refs/heads/*:{_ORIGIN}*")
            if answer.exit_code:
                raise GitError(f"cannot fetch from {self.url}: {explain(answer)}")
            if await self._has(commit):
                return
            answer = await self._fetch(commit)
            if not await self._has(commit):
                raise CommitNotFound(f"{self.url} has no commit {commit}: {explain(answer)}")

    async def _create(self, hash_length: int) -> None:
        kind = "sha1" if hash_length == 40 else "sha256"
        made = self.git_dir.with_name(f"{self.git_dir.name}.{uuid.uuid4().hex}.new")
        init = ("init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(made))
        await self._git.run(*init, cwd=self.git_dir.parent)
        made.rename(self.git_dir)

    async def _fetch(self, refspec: str) -> ChildAnswer:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--prune", "--update-shallow")
        return await self.ask("fetch", *options, "--", self.url, refspec, timeout=NETWORK_TIMEOUT)

    async def _has(self, commit: str) -> bool:
        return (await self.ask("cat-file", "-e", f"{commit}^{{commit}}")).exit_code == 0

    async def push(self, commit: str, branch: str, expected: str) -> None:
        """Move the remote's branch from `expected` to a commit; empty: it must not be there, or is deleted.

        The remote's own word is taken, by reading the branch, where git says that it failed. Raises GitError.
        """
        ref = f"refs/heads/{branch}"
        options = ["--quiet", "--no-verify", f"--force-with-lease={ref}:{expected}"]
        if self.is_local:
            options.append(f"--receive-pack={_RECEIVE_PACK}")
        push = ("push", *options, "--", self.url, f"{commit}:{ref}")
        answer = await self.ask(*push, timeout=NETWORK_TIMEOUT)
        if answer.exit_code and await self.tip(branch) != commit:
            raise GitError(f"cannot push {branch} to {self.url}: {explain(answer)}")

    async def delete(self, branches: Iterable[str]) -> None:
        """Delete branches of the remote, in one push; some may be gone already. Raises GitError."""
        refs = frozenset(f"refs/heads/{branch}" for branch in branches)
        there = await self._those_there(refs)
        if not there:
            return
        options = [f"--receive-pack={_RECEIVE_PACK}"] if self.is_local else []
        push = ("push", "--quiet", "--no-verify", *options, "--", self.url, *(f":{ref}" for ref in there))
        answer = await self.ask(*push, timeout=NETWORK_TIMEOUT)
        if answer.exit_code and (left := await self._those_there(refs)):
            raise GitError(f"cannot delete {', '.join(left)} of {self.url}: {explain(answer)}")

    async def _those_there(self, refs: frozenset[str]) -> list[str]:
        """Which of these refs the remote has."""
        listed = (line.partition("\t")[2] for line in (await self.list_remote(*refs)).splitlines())
        return sorted(refs.intersection(listed))

    async def list_remote(self, *names: str) -> str:
        """What the remote lists for these refs, a commit and a ref a line. Raises GitError."""
        listing = await self._git.run(
            "ls-remote", "--", self.url, *names, cwd=self.git_dir.parent, timeout=NETWORK_TIMEOUT
        )
        return listing.decode(errors="replace")

    def local_git_dirs(self) -> tuple[Path, ...]:
        """Where the remote's git directory may be, where the remote is a path of this machine."""
        if not self.is_local:
            return ()
        path = Path(self.url.removeprefix("file://"))
        return (path / ".git", path)

    async def why_unreadable(self, error: GitError) -> str:
        """What is wrong with a remote that git could not list, and what to do, as far as can be told."""
        path = Path(self.url.removeprefix("file://"))
        if self.is_local and not path.is_dir():
            return f"{self.url}: there is no such folder"
        if self.is_local and path.stat().st_uid != os.geteuid():
            mend = (
                "run codeframe as its owner, or on a clone of your own "
                "(its git reads no settings of yours, so safe.directory does not help)"
            )
            return f"{self.url} belongs to another user; {mend}"
        if self.is_local:
            answer = await self._git.ask("rev-parse", "--show-toplevel", cwd=path)
            root = answer.stdout.decode(errors="replace").rstrip("\n")
            if root and Path(root) != path.resolve():
                return f"{self.url} is a folder of the repository {root}; name that"
            if answer.exit_code:
                return f"{self.url} is no git repository; name one, or make one with `git init`, and commit"
        told, _, _ = str(error).partition("\nfatal: Could not read from remote repository.")
        return f"{self.url} cannot be read as a git repository: {told}"

    async def tip(self, branch: str) -> str:
        """The commit of a branch of the remote; empty where there is none. Raises GitError."""
        ref = f"refs/heads/{branch}"
        found = (line.split("\t") for line in (await self.list_remote(ref)).splitlines())
        return next((commit for commit, name in found if name == ref), "")

    async def tree(self, commit: str) -> str:
        """The tree of a commit. Raises GitError."""
        return (await self.run("rev-parse", "--verify", f"{commit}^{{tree}}")).decode().strip()


def clone_folder(url: str) -> str:
    """The name of the folder that holds the bare clone of `url`."""
    return hashlib.sha256(url.encode()).hexdigest()[:24] + ".git"


_RECEIVE_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsync=all",
    "receive.autogc=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_RECEIVE_PACK = " ".join(["git", *(f"-c {shlex.quote(one)}" for one in _RECEIVE_SETTINGS), "receive-pack"])
