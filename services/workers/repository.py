"""What an attempt asks of its repository: commits made, and how two of them differ."""

from services.runtime.clone import Clone
from services.runtime.git import GitError, explain
from services.workers.work import FileChange

FILES_LIMIT = 5000
PATHS_LIMIT = 512 << 10  # bytes; with room to spare in a reply of 1 MiB
_OPERATIONS = {"A": "created", "D": "deleted", "M": "modified", "T": "modified"}


class TooManyChanges(GitError):
    """Two commits differ in more files than a result may name."""


class Repository(Clone):
    """A bare clone, as an attempt uses it."""

    async def record(self, tree: str, parent: str, message: str) -> str:
        """Make a commit; its id. Raises GitError."""
        made = await self.run("commit-tree", "-p", parent, tree, "-F", "-", stdin=message.encode())
        return made.decode().strip()

    async def subject(self, commit: str) -> str:
        """The first line of a commit's message. Raises GitError."""
        return (await self.run("show", "--no-patch", "--format=%s", commit)).decode(errors="replace").strip()

    async def files(self, commit: str) -> frozenset[str]:
        """Paths of a commit's files; submodules are none. Raises GitError."""
        listing = await self.run("ls-tree", "-r", "-z", "--full-tree", commit)
        entries = (entry.partition("\t") for entry in listing.decode(errors="replace").split("\0"))
        return frozenset(path for about, _, path in entries if path and not about.startswith("160000 "))

    async def changes(self, base: str, commit: str) -> tuple[FileChange, ...]:
        """Files that differ between two commits, by path. Raises TooManyChanges, GitError."""
        diff = ("diff-tree", "-r", "-z", "--no-renames", "--name-status", base, commit)
        answer = await self.ask(*diff, limit=PATHS_LIMIT)
        words = answer.stdout.decode(errors="replace").split("\0")[:-1]
        if answer.clipped or len(words) > 2 * FILES_LIMIT:
            raise TooManyChanges(f"the work changes more than {FILES_LIMIT} files, or paths too long to name")
        if answer.exit_code:
            raise GitError(f"git diff-tree: {explain(answer)}")
        pairs = zip(words[::2], words[1::2], strict=True)
        return tuple(FileChange(path, _OPERATIONS[status]) for status, path in pairs)

    async def diff(self, base: str, commit: str, limit: int) -> tuple[bytes, bool]:
        """The patch between two commits, and whether it was clipped to `limit` bytes. Raises GitError."""
        options = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
        answer = await self.ask("diff-tree", "-p", *options, base, commit, limit=limit)
        if answer.exit_code and not answer.clipped:
            raise GitError(f"git diff-tree: {explain(answer)}")
        return answer.stdout, answer.clipped
