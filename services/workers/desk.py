"""What an attempt lays out for its agent, and what the agent leaves behind."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from services.workers.outcome import Outcome
from services.workers.work import ModelUsage, TurnUsage


@dataclass(frozen=True, slots=True)
class GitAnswer:
    """What a git command said: its stdout where it exited 0 or 1, else its stderr.

    `output` is at most the first MiB, UTF-8 with replacement; `truncated` says that there was more.
    """

    exit_code: int
    output: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What is known of an attempt's base: its verification, whether it has tests, its files.

    `verification` is empty where nothing verifies the work. For a plan, it is a line for each role, and
    `files` are not told.
    """

    verification: str
    has_tests: bool
    files: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification of the committed work came to.

    `text` is for the model where it is not green: what is red and the output, clipped; `summary` is a line
    of the same for people. `final` is the outcome that ends the attempt, where no correction can help.
    """

    green: bool
    summary: str = ""
    text: str = ""
    final: Outcome | None = None

    @property
    def message(self) -> str:
        """Summary and text, without the summary where the text begins with it."""
        if self.text.startswith(self.summary):
            return self.text
        return f"{self.summary}\n\n{self.text}".strip()


class Workspace(Protocol):
    """An attempt's worktree, as tools see it."""

    @property
    def root(self) -> Path:
        """Its folder: absolute, with no symlink in it."""
        ...

    async def git(self, *arguments: str) -> GitAnswer:
        """Run a reading git command on the worktree (with --git-dir and --work-tree) and return what it said.

        Cancelled, it kills the command. Raises AttemptFailed where git cannot be run or takes too long.
        """
        ...

    async def run_tests(self, paths: Sequence[str]) -> str:
        """Run the verification command in the sandbox on the worktree as it is; return its output, clipped.

        `paths` narrow it to some test files where the test runner can do that; empty means all. The text
        ends with what came of it: the exit code, or that it was killed after its time. Cancelled, it kills
        every process. What the run changed in the worktree is undone, but for what the project ignores.
        Raises AttemptFailed where the sandbox cannot run it.
        """
        ...


class Desk(Workspace, Protocol):
    """All that an agent needs of its attempt."""

    @property
    def base(self) -> BaseFacts:
        """The attempt's base."""
        ...

    async def verify(self) -> Verdict:
        """Commit what the worktree holds, push it, and run the project's checks on a fresh checkout of it.

        Broadcasts VERIFYING before and TestsRan after. Work that equals its base, or a final diff outside
        the role's write scope, is a red verdict that says so. Cancelled, it kills every process. Raises
        AttemptFailed where no verdict can be had.
        """
        ...

    def clock_stopped(self) -> AbstractContextManager[None]:
        """While entered, the attempt's timeout does not run. Never nested."""
        ...


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """What an agent did so far, whether it got to its end or was stopped.

    `transcript` is JSON lines, at most 16 MiB, whole but for lines dropped after that where
    `transcript_truncated`. `waited` is the time it waited for the provider; `paid` has the turns that may be
    billed.
    """

    turns: int
    corrections: int
    usage: tuple[ModelUsage, ...]
    waited: timedelta
    transcript: bytes
    transcript_truncated: bool
    paid: tuple[TurnUsage, ...] = ()
