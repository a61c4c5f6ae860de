"""How soon an attempt's worktree of a large repository is ready: `python -m bench.checkout`.

A repository of 100,000 files is made, fetched once, and checked out as an attempt does, in turns with
`git worktree add`; then the untouched worktree is recorded, as before each verification.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from services.runtime.git import Git
from services.runtime.process import install_child_watcher
from services.workers.workspace import DataFolder

FILES_A_FOLDER = 100


def stream(files: int) -> Iterator[bytes]:
    """A commit of so many small files, as `git fast-import` reads it."""
    yield b"commit refs/heads/main\ncommitter A Person <person@example.org> 0 +0000\ndata 5\nfirst\n"
    for number in range(files):
        folder = number // FILES_A_FOLDER
        text = f"value = {number}\n".encode() * 20
        yield b"M 100644 inline src/%d/%d/%d.py\n" % (folder % 50, folder, number)
        yield b"data %d\n%s\n" % (len(text), text)


def make_repository(where: Path, files: int) -> str:
    """A bare repository with one commit; the commit."""
    subprocess.run(["git", "init", "--quiet", "--bare", str(where)], check=True)
    subprocess.run(["git", "fast-import", "--quiet"], cwd=where, input=b"".join(stream(files)), check=True)
    asked = ["git", "rev-parse", "refs/heads/main"]
    return subprocess.run(asked, cwd=where, capture_output=True, text=True, check=True).stdout.strip()


async def measure(folder: Path, files: int, rounds: int) -> None:
    """Make the repository, and print how long each step takes, in seconds."""
    commit = make_repository(folder / "repository", files)
    data = DataFolder(folder / "data", Git(os.environ))
    await data.open()
    repository = data.repository(str(folder / "repository"))
    started = time.monotonic()
    await repository.obtain(commit)
    print(f"{files:,} files; the first fetch: {time.monotonic() - started:.1f} s")
    ours, theirs, recorded = [], [], []
    for number in range(rounds):
        started = time.monotonic()
        plain = ("worktree", "add", "--quiet", "--detach", str(folder / f"plain-{number}"), commit)
        process = await asyncio.create_subprocess_exec("git", *plain, cwd=folder / "repository")
        await process.wait()
        theirs.append(time.monotonic() - started)
        worktree = data.worktree(repository, data.attempt(str(number)) / "tree")
        started = time.monotonic()
        await worktree.check_out(commit)
        ours.append(time.monotonic() - started)
        started = time.monotonic()
        await worktree.tree()
        recorded.append(time.monotonic() - started)
        await data.remove(data.attempt(str(number)))
    for what, times in (
        ("an attempt's worktree", ours),
        ("git worktree add", theirs),
        ("recording it", recorded),
    ):
        print(f"{what}: {statistics.median(times):.2f} s (of {', '.join(f'{each:.2f}' for each in times)})")
    print(f"ours to git's own: {statistics.median(ours) / statistics.median(theirs):.2f}")
    data.close()


def main() -> None:
    """Measure in a folder that goes with the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    told = parser.parse_args()
    install_child_watcher()
    with tempfile.TemporaryDirectory(prefix="codeframe-bench-") as folder:
        asyncio.run(measure(Path(folder), told.files, told.rounds))


if __name__ == "__main__":
    main()
