"""git, with nothing of the user's: no configuration, no hooks, no prompt."""

import os
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path

from services.runtime.child import ChildAnswer, ChildError, run_child
from services.runtime.folder_lock import FolderLock

NETWORK_TIMEOUT = 600.0
_TIMEOUT = 300.0

_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.fsync=all",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.autocrlf=false",
    "core.symlinks=true",
    "core.quotePath=false",
    "merge.directoryRenames=false",
    "diff.ignoreSubmodules=all",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.allow=never",  # a URL such as ext::sh would otherwise be a command
    "protocol.file.allow=always",
    "protocol.git.allow=always",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
)
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))

_PASSED_ON = {
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_ASKPASS",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
}
_OWN = {
    "LC_ALL": "C",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_AUTHOR_NAME": "codeframe",
    "GIT_AUTHOR_EMAIL": "codeframe@localhost",
    "GIT_COMMITTER_NAME": "codeframe",
    "GIT_COMMITTER_EMAIL": "codeframe@localhost",
}
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15"


class GitError(Exception):
    """git could not do it; the text is git's own, after what was asked of it."""


class CommitNotFound(GitError):
    """The repository has no such commit."""


class Git:
    """Runs git. Of `environ`, what the server was started with, git gets what it needs to reach a remote."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        passed = {name: value for name, value in environ.items() if name in _PASSED_ON}
        self._env = {"GIT_SSH_COMMAND": _SSH} | passed | _OWN
        self._lock: FolderLock | None = None

    def holding(self, lock: FolderLock) -> "Git":
        """The same, whose every process holds the lock of the folder it writes to, as long as it runs."""
        git = copy(self)
        git._lock = lock
        return git

    @property
    def inherits(self) -> tuple[int, ...]:
        """The descriptors that its processes inherit; other programs that write where it does should, too."""
        return (self._lock.descriptor,) if self._lock and self._lock.descriptor >= 0 else ()

    async def ask(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limit: int = 64 << 20,
        timeout: float = _TIMEOUT,
        sink: Callable[[bytes], None] | None = None,
    ) -> ChildAnswer:
        """Run git and return what it said, whatever its exit code; a `sink` takes its stdout as it comes.

        Cancelled, it ends git first. Raises GitError where git cannot be run or does not end in `timeout` s.
        """
        argv = ("git", *_OPTIONS, *arguments)
        try:
            return await run_child(
                argv,
                cwd=cwd,
                env=self._env | dict(env or {}),
                stdin=stdin,
                limit=limit,
                timeout=timeout,
                sink=sink,
                inherits=self.inherits,
            )
        except ChildError as error:
            raise GitError(f"{_name(arguments)}: {error}") from None

    async def run(
        self,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        limit: int = 64 << 20,
        timeout: float = _TIMEOUT,
    ) -> bytes:
        """Run git and return its stdout. Raises GitError where it fails, or says more than `limit` bytes."""
        answer = await self.ask(*arguments, cwd=cwd, env=env, stdin=stdin, limit=limit, timeout=timeout)
        if answer.clipped:
            raise GitError(f"{_name(arguments)}: its answer is longer than {limit} bytes")
        if answer.exit_code:
            raise GitError(f"{_name(arguments)}: {explain(answer)}")
        return answer.stdout


def explain(answer: ChildAnswer) -> str:
    """What git said went wrong, clipped to a few lines."""
    lines = [line for line in answer.stderr.decode(errors="replace").splitlines() if line.strip()]
    return "\n".join(lines[-5:])[-2000:] or f"exit code {answer.exit_code}"


def _name(arguments: tuple[str, ...]) -> str:
    return "git " + next((word for word in arguments if not word.startswith("-")), "")
