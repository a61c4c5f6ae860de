"""The worker's data folder: bare clones, workspaces, and what else it keeps on disk."""

import hashlib
import logging
import os
import secrets
import shlex
from pathlib import Path

from services.runtime.child import ChildError, run_child
from services.runtime.clone import clone_folder
from services.runtime.folder_lock import FolderHeld, FolderLock
from services.runtime.git import Git, GitError
from services.workers.workspace.repository import Repository
from services.workers.workspace.unpushed import keep_unpushed, read_note
from services.workers.workspace.worktree import Worktree

_log = logging.getLogger(__name__)
_REMOVAL_TIMEOUT = 600.0


class DataFolderError(Exception):
    """The folder cannot be used; the text names it and says what to do."""


class DataFolder:
    """One worker's folder, held by a lock that the kernel frees with the process and its children.

    `environments` is what setup caches, `scratch` what the sandbox needs; both are kept by others.
    """

    def __init__(self, root: Path, git: Git) -> None:
        self.root = root
        self.environments = root / "environments"
        self.scratch = root / "scratch"
        self._attempts = root / "attempts"
        self._left = root / "left"
        self._repositories = root / "repositories"
        self._lock = FolderLock(root / "lock")
        self._git = git.holding(self._lock)
        self._clones: dict[str, Repository] = {}

    async def open(self) -> None:
        """Make the folder, take its lock, and clear up what dead processes left. Raises DataFolderError.

        Work that they had not pushed is kept, and told of in the log. What a killed worker left running is
        outlasted first.
        """
        try:
            for folder in (self.environments, self.scratch, self._attempts, self._repositories):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._lock.take()
        except FolderHeld as held:
            what_next = "stop it, or give this one a folder of its own with --data-dir"
            raise DataFolderError(f"another worker uses {self.root} ({held}): {what_next}") from None
        except OSError as error:
            raise DataFolderError(f"cannot use {self.root}: {error.strerror}") from None
        for made in self._repositories.glob("*.new"):
            await self.remove(made)
        locks = ("-name", "*.lock", "-o", "-path", "*/objects/*", "-name", "tmp_*")
        await self._run("find", str(self._repositories), "-type", "f", "(", *locks, ")", "-delete")
        for name in sorted(os.listdir(self._attempts)):
            await self._clear(self._attempts / name)

    async def _clear(self, folder: Path) -> None:
        """Remove what a dead process left of an attempt, once its work is kept. What cannot be kept stays."""
        try:
            await self._keep(folder)
        except GitError as error:
            left = self._left / f"{folder.name}-{secrets.token_hex(4)}"
            self._left.mkdir(mode=0o700, exist_ok=True)
            folder.rename(left)
            _log.warning("what a dead process left stays in %s: %s", left, error)
        else:
            await self.remove(folder)

    async def _keep(self, folder: Path) -> None:
        if (note := read_note(folder)) is None:
            return
        repository = self.repository(note.repository)
        worktree = self.worktree(repository, folder / "tree")
        try:
            ref = await keep_unpushed(note, worktree)
        except GitError:  # folders that a test made unreadable
            await self._run("chmod", "-R", "u+rwX", "--", str(folder))
            ref = await keep_unpushed(note, worktree)
        if ref:
            look = shlex.join(["git", f"--git-dir={repository.git_dir}", "log", "-p", ref])
            _log.warning("work of %s was not pushed as its worker was killed; see %s", note.attempt_id, look)

    def close(self) -> None:
        """Free the lock."""
        self._lock.close()

    def repository(self, url: str) -> Repository:
        """The bare clone of a repository, which may still have to be made."""
        if url not in self._clones:
            self._clones[url] = Repository(self._git, url, self._repositories / clone_folder(url))
        return self._clones[url]

    def attempt(self, attempt_id: str) -> Path:
        """Where an attempt keeps its files. The path is short: tests make sockets below it."""
        return self._attempts / hashlib.sha256(attempt_id.encode()).hexdigest()[:12]

    def worktree(self, repository: Repository, root: Path) -> Worktree:
        """A worktree, which is still to be checked out."""
        return Worktree(self._git, repository, root)

    async def remove(self, folder: Path) -> None:
        """Remove a folder, and an index beside it. What cannot be removed is logged, and left."""
        folder.with_name(folder.name + ".index").unlink(missing_ok=True)
        if not folder.exists():
            return
        problem = await self._run("rm", "-rf", "--one-file-system", "--", str(folder))
        if problem:  # folders that a test made unwritable
            await self._run("chmod", "-R", "u+rwX", "--", str(folder))
            problem = await self._run("rm", "-rf", "--one-file-system", "--", str(folder))
        if problem:
            _log.warning("cannot remove %s: %s", folder, problem)

    async def _run(self, *argv: str) -> str:
        """Run a program; why it failed, or nothing."""
        try:
            path = {"PATH": os.defpath, "LC_ALL": "C"}
            answer = await run_child(
                argv,
                cwd=self.root,
                env=path,
                limit=1 << 16,
                timeout=_REMOVAL_TIMEOUT,
                inherits=self._git.inherits,
            )
        except ChildError as error:
            return str(error)
        return answer.stderr.decode(errors="replace").strip() if answer.exit_code else ""
