"""What an attempt asks of its repository: commits made, and how two of them differ."""

import hashlib
from dataclasses import replace

from services.runtime.clone import Clone
from services.runtime.git import GitError, explain
from services.workers.work import FileChange

FILES_LIMIT = 5000
PATHS_LIMIT = 2 << 20  # bytes of what git says of them
_NOTHING = "000000"  # the mode of a file that is not there
_SUBMODULE = "160000"
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
        """Files that differ between two commits, by path, undigested. Raises TooManyChanges, GitError."""
        return tuple(change for change, _, _ in await self._changes(base, commit))

    async def digested(self, base: str, commit: str) -> tuple[FileChange, ...]:
        """The same, with the sha256 of each file before and after. Raises TooManyChanges, GitError."""
        changes = await self._changes(base, commit)
        digests = await self._digests(sorted({blob for _, *blobs in changes for blob in blobs if blob}))
        return tuple(
            replace(change, sha256_before=digests.get(before, ""), sha256_after=digests.get(after, ""))
            for change, before, after in changes
        )

    async def _changes(self, base: str, commit: str) -> list[tuple[FileChange, str, str]]:
        """Each change, with the blobs before and after; empty where there is none."""
        answer = await self.ask(
            "diff-tree", "-r", "-z", "--no-renames", "--raw", base, commit, limit=PATHS_LIMIT
        )
        words = answer.stdout.decode(errors="replace").split("\0")[:-1]
        if answer.clipped or len(words) > 2 * FILES_LIMIT:
            raise TooManyChanges(f"the work changes more than {FILES_LIMIT} files, or paths too long to name")
        if answer.exit_code:
            raise GitError(f"git diff-tree: {explain(answer)}")
        return [_change(about, path) for about, path in zip(words[::2], words[1::2], strict=True)]

    async def _digests(self, blobs: list[str]) -> dict[str, str]:
        """The sha256 of the bytes of blobs, however long they are."""
        hashing = _Hashing()
        if blobs:
            await self.pour("cat-file", "--batch", stdin="\n".join([*blobs, ""]).encode(), sink=hashing.take)
        return dict(zip(blobs, hashing.digests, strict=True))

    async def text(self, commit: str, path: str) -> str | None:
        """The text of a commit's file, at most its first MiB; None where it has none. Raises GitError."""
        answer = await self.ask("cat-file", "blob", f"{commit}:{path}", limit=1 << 20)
        if answer.exit_code and not answer.clipped:
            return None
        return answer.stdout.decode(errors="replace")

    async def diff(self, base: str, commit: str, limit: int) -> tuple[bytes, bool]:
        """The patch between two commits, and whether it was clipped to `limit` bytes. Raises GitError."""
        options = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
        answer = await self.ask("diff-tree", "-p", *options, base, commit, limit=limit)
        if answer.exit_code and not answer.clipped:
            raise GitError(f"git diff-tree: {explain(answer)}")
        return answer.stdout, answer.clipped


def _change(about: str, path: str) -> tuple[FileChange, str, str]:
    """A line of `diff-tree --raw`: ":<mode> <mode> <blob> <blob> <status>"."""
    before, after, old, new, status = about.removeprefix(":").split(" ")
    change = FileChange(
        path,
        _OPERATIONS[status],
        mode_before="" if before == _NOTHING else before,
        mode_after="" if after == _NOTHING else after,
    )
    without_blob = (_NOTHING, _SUBMODULE)
    return change, "" if before in without_blob else old, "" if after in without_blob else new


class _Hashing:
    """Takes what `cat-file --batch` says: "<blob> blob <size>", a line break, the bytes, a line break."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self._head = b""
        self._left = 0  # bytes to come of a blob, and the line break behind it
        self._hash = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        """Take the next bytes. Raises GitError where git has no such blob."""
        view = memoryview(piece)
        while view:
            view = view[self._head_from(view) :] if not self._left else view[self._bytes_from(view) :]

    def _head_from(self, view: memoryview) -> int:
        line, end, _ = bytes(view[:200]).partition(b"\n")
        self._head += line
        if end:
            *_, size = self._head.split(b" ")
            if not size.isdigit():
                raise GitError(f"git cat-file: {self._head.decode(errors='replace')}")
            self._head, self._left, self._hash = b"", int(size) + 1, hashlib.sha256()
        return len(line) + len(end)

    def _bytes_from(self, view: memoryview) -> int:
        taken = min(len(view), self._left)
        self._left -= taken
        self._hash.update(view[: taken if self._left else taken - 1])
        if not self._left:
            self.digests.append(self._hash.hexdigest())
        return taken
