"""A commit checked out into a folder that holds no git directory of its own."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.runtime.child import ChildAnswer, ChildError, run_child
from services.runtime.git import Git, GitError, explain
from services.workers.workspace.repository import Repository

_SUBMODULE = "160000 "
_REMOVAL_TIMEOUT = 60.0

HALF_WRITTEN = ".codeframe-"
"""So begins the name of a file that an agent writes, until it is whole."""


class Worktree:
    """A folder of files, and an index beside it.

    Whatever stands in the folder is data: a `.git` in it is never read, a submodule never entered, and
    attributes name no program, for nothing configures one.
    """

    def __init__(self, git: Git, repository: Repository, root: Path) -> None:
        self.root = root
        self.repository = repository
        self._git = git
        self._index = root.with_name(root.name + ".index")
        self._options = (f"--git-dir={repository.git_dir}", f"--work-tree={root}")
        self._env = {"GIT_INDEX_FILE": str(self._index)}
        self._submodules: frozenset[str] = frozenset()
        self._lent = ""

    async def check_out(self, commit: str) -> None:
        """Make the folder and fill it with a commit that the clone has. Raises GitError."""
        self.root.mkdir(parents=True)
        await self._run("read-tree", "--reset", "-u", "--no-recurse-submodules", commit)
        self._submodules = await self._listed_submodules()

    async def take_up(self) -> None:
        """Go on with what another process checked out, less the file that it was writing. Raises GitError."""
        self._unlock()
        await self._run("clean", "--quiet", "--force", "--", f":(glob)**/{HALF_WRITTEN}*")
        self._submodules = await self._listed_submodules()

    async def ask(self, *arguments: str, limit: int, timeout: float) -> ChildAnswer:
        """Run a reading git command on the folder, whatever its exit code. Raises GitError where it hangs."""
        return await self._git.ask(
            *self._options, *arguments, cwd=self.root, env=self._env, limit=limit, timeout=timeout
        )

    async def tree(self) -> str:
        """Record the folder as a tree, less what the project ignores; the tree's id.

        Nested repositories are left out, submodules stay as they were, and what is lent is put back first.
        Raises GitError.
        """
        await self._put_back()
        return await self._recorded()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Let commands that nobody trusts write the folder, and put it back as it was.

        What they change, delete or add is undone, but for what the project ignores: caches may stay. Where
        the block was left by an error, `tree` puts the folder back. Raises GitError.
        """
        await self._put_back()
        self._lent = await self._recorded()
        yield
        await self._put_back()

    async def _put_back(self) -> None:
        if not self._lent:
            return
        self._unlock()
        try:
            await self._undo(self._lent)
        except GitError:  # folders that a test made unwritable, or deeper than git can follow
            await self._remove_by_force()
            await self._undo(self._lent)
        self._lent = ""

    async def _remove_by_force(self) -> None:
        """Remove the folders and files that are new; where that does not help, git says so next."""
        env = {"PATH": os.defpath}
        with suppress(ChildError):
            chmod = ("chmod", "-R", "u+rwX", "--", str(self.root))
            inherits = self._git.inherits
            await run_child(chmod, cwd=self.root.parent, env=env, timeout=_REMOVAL_TIMEOUT, inherits=inherits)
            listing = await self._run("ls-files", "--others", "--exclude-standard", "--directory", "-z")
            new = [os.fsdecode(path).rstrip("/") for path in listing.split(b"\0")[:-1]]
            for some in range(0, len(new), 1000):
                rm = ("rm", "-rf", "--one-file-system", "--", *new[some : some + 1000])
                await run_child(rm, cwd=self.root, env=env, timeout=_REMOVAL_TIMEOUT, inherits=inherits)

    async def _undo(self, tree: str) -> None:
        await self._run("read-tree", "--reset", "-u", "--no-recurse-submodules", tree)
        await self._run("clean", "--quiet", "-ff", "-d")

    def _unlock(self) -> None:
        """Remove what a git that was killed left."""
        self._index.with_name(self._index.name + ".lock").unlink(missing_ok=True)

    async def _recorded(self) -> str:
        self._unlock()
        nested = [path.rstrip("/") for path in await self._untracked() if path.endswith("/")]
        await self._add(sorted({*nested, *self._submodules}))
        return (await self._run("write-tree")).decode().strip()

    async def _untracked(self) -> list[str]:
        listing = await self._run("ls-files", "--others", "--exclude-standard", "-z")
        return listing.decode(errors="surrogateescape").split("\0")[:-1]

    async def _add(self, excluded: Sequence[str]) -> None:
        specs = [".", *(f":(exclude,literal,top){path}" for path in excluded)]
        stdin = "".join(spec + "\0" for spec in specs).encode(errors="surrogateescape")
        await self._run("add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", stdin=stdin)

    async def _listed_submodules(self) -> frozenset[str]:
        listing = (await self._run("ls-files", "--stage", "-z")).decode(errors="surrogateescape")
        entries = (entry.partition("\t") for entry in listing.split("\0"))
        return frozenset(path for about, _, path in entries if about.startswith(_SUBMODULE))

    async def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        answer = await self._git.ask(*self._options, *arguments, cwd=self.root, env=self._env, stdin=stdin)
        if answer.clipped or answer.exit_code:
            raise GitError(f"git {arguments[0]}: {explain(answer)}")
        return answer.stdout
