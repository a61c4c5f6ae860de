"""A real git worktree with scripted test runs, as tools see a workspace."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.workers.desk import BaseFacts, GitAnswer, Verdict


class GitWorkspace:
    """A repository of its own in a folder; what `run_tests` was asked for is kept."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.ran: list[tuple[str, ...]] = []
        self.test_output = "1 passed\nexit code 0; 1 passed"

    async def git(self, *arguments: str) -> GitAnswer:
        process = await asyncio.create_subprocess_exec(
            "git", f"--git-dir={self.root}/.git", f"--work-tree={self.root}", *arguments,
            cwd=self.root, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        stdout, stderr = await process.communicate()
        assert process.returncode is not None
        output = stdout if process.returncode in (0, 1) else stderr
        return GitAnswer(process.returncode, output.decode(errors="replace"))

    async def run_tests(self, paths: Sequence[str]) -> str:
        self.ran.append(tuple(paths))
        return self.test_output

    def put(self, name: str, content: str | bytes = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def files(self) -> dict[str, str]:
        """All that is in the worktree, by name."""
        found = (path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.parts)
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes().decode(errors="replace")
            for path in found
        }


class GitDesk(GitWorkspace):
    """A git workspace whose verdicts a test gives."""

    def __init__(self, root: Path, verdicts: Sequence[Verdict], has_tests: bool = True) -> None:
        super().__init__(root)
        self.base = BaseFacts("python -m pytest", has_tests, frozenset({"tests/test_old.py"}))
        self.verified: list[dict[str, str]] = []
        self.stopped = 0
        self.is_stopped = False
        self._verdicts = iter(verdicts)

    async def verify(self) -> Verdict:
        self.verified.append(self.files())
        return next(self._verdicts)

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        assert not self.is_stopped
        self.is_stopped = True
        self.stopped += 1
        try:
            yield
        finally:
            self.is_stopped = False


async def git_workspace(root: Path) -> GitWorkspace:
    """Make `root` a repository without a commit."""
    workspace = GitWorkspace(root)
    assert (await workspace.git("init", "--quiet")).exit_code == 0
    return workspace
