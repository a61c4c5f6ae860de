"""A git that stops in the middle of one command, until a test lets it go on."""

import os
import shutil
from pathlib import Path

from tests.fifo import opened

_PROGRAM = """\
#!/bin/sh
for word; do
  if [ "$word" = {command} ] && mkdir {folder}/held 2>/dev/null; then
    : > {folder}/reached
    read _ < {folder}/released
  fi
done
exec {git} "$@"
"""


class HeldGit:
    """Stands in git's place for who has `path` for PATH. The first `command` waits to be released."""

    def __init__(self, folder: Path, command: str) -> None:
        folder.mkdir()
        os.mkfifo(folder / "reached")
        os.mkfifo(folder / "released")
        program = folder / "git"
        program.write_text(_PROGRAM.format(command=command, folder=folder, git=shutil.which("git")))
        program.chmod(0o755)
        self.path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        self._folder = folder

    def __enter__(self) -> "HeldGit":
        return self

    def __exit__(self, *failure: object) -> None:
        """Let nobody wait on, whatever the test came to."""
        for name in ("reached", "released"):
            fd = os.open(self._folder / name, os.O_RDWR | os.O_NONBLOCK)
            os.write(fd, b"\n")
            (self._folder / name).unlink()
            os.close(fd)

    async def reached(self) -> None:
        """Return once the command was begun."""
        await opened(self._folder / "reached")

    def release(self) -> None:
        """Let it go on."""
        (self._folder / "released").write_text("\n")
