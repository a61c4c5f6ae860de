"""An attempt's own branch: what its workspace holds, committed and pushed."""

from collections.abc import Callable, Sequence

from services.runtime.git import GitError
from services.workers.clock import Clock
from services.workers.workspace.worktree import Worktree

SUBJECT_LIMIT = 200
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between tries to push; a git server may be away for a moment


def commit_message(kind: str, task_id: str, title: str, trailers: Sequence[tuple[str, str]]) -> str:
    """`kind(task): title`, and trailers."""
    subject = f"{kind}({task_id}): {' '.join(title.split())}"
    if len(subject) > SUBJECT_LIMIT:
        subject = subject[: SUBJECT_LIMIT - 1] + "…"
    return "\n".join([subject, "", *(f"{name}: {value}" for name, value in trailers), ""])


class Branch:
    """A branch of the repository that one attempt alone moves, from the commit it starts at.

    It comes to be with the first commit that is not `base`. `note` is told each commit, and whether it is
    pushed.
    """

    def __init__(
        self,
        worktree: Worktree,
        name: str,
        start: str,
        base: str,
        message: str,
        clock: Clock,
        note: Callable[[str, bool], None],
    ) -> None:
        self.name = name
        self.commit = start
        self.pushed = ""
        """The commit that the repository holds under this name; empty where it has no such branch yet."""
        self._base = base
        self._made = {start}
        self._worktree = worktree
        self._message = message
        self._clock = clock
        self._note = note

    @property
    def subject(self) -> str:
        """The first line of its commits."""
        return self._message.partition("\n")[0]

    async def save(self) -> str:
        """Commit what changed in the worktree since the last commit, and push; the commit it now stands at.

        Tries to push again for half a minute. Raises GitError.
        """
        repository = self._worktree.repository
        tree = await self._worktree.tree()
        if tree != await repository.tree(self.commit):
            self.commit = await repository.record(tree, self.commit, self._message)
            self._made.add(self.commit)
            self._note(self.commit, False)
        if self.commit not in (self.pushed, self._base):
            await self._push()
        return self.commit

    async def _push(self) -> None:
        repository = self._worktree.repository
        for pause in (*_PAUSES, None):
            try:
                await repository.push(self.commit, self.name, self.pushed)
                self.pushed = self.commit
                self._note(self.commit, True)
                return
            except GitError:
                if pause is None:
                    raise
            if (tip := await self._tip()) in self._made:  # of a push that was cut off before its answer
                self.pushed = tip
            else:
                await self._clock.sleep(pause)

    async def _tip(self) -> str:
        try:
            return await self._worktree.repository.tip(self.name)
        except GitError:
            return ""
