"""Reading git commands, as tools ask them of a worktree."""

from services.workers.desk import GitAnswer
from services.workers.failures import as_outcomes
from services.workers.workspace import Worktree

_LIMIT = 1 << 20
_TIMEOUT = 60.0


async def read_git(worktree: Worktree, *arguments: str) -> GitAnswer:
    """Run a reading git command. Raises AttemptFailed where it cannot be run or takes too long."""
    with as_outcomes():
        answer = await worktree.ask(*arguments, limit=_LIMIT, timeout=_TIMEOUT)
    output = answer.stdout if answer.clipped or answer.exit_code in (0, 1) else answer.stderr
    exit_code = 0 if answer.clipped else answer.exit_code
    return GitAnswer(exit_code, output.decode(errors="replace"), answer.clipped)
