"""The data folder of an `up`: who holds it, and where its servers answer."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

_LOCK_TRIES = 20


@dataclass(frozen=True, slots=True)
class Up:
    """A running `up`: its process, and the addresses of its servers by name.

    One that is stopping takes no new runs, but may still be asked.
    """

    pid: int
    lead: str
    gateway: str
    servers: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    stopping: bool = False


def default_folder() -> Path:
    """`$XDG_STATE_HOME/codeframe`, by default `~/.local/state/codeframe`."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "codeframe"


class FolderHeld(Exception):
    """Another `up` has the folder."""


@asynccontextmanager
async def holding(folder: Path) -> AsyncIterator[None]:
    """Hold a data folder; the kernel frees it with this process. Raises FolderHeld."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = folder / "up.json"
    with (folder / "up.lock").open("w") as lock:
        await _lock(lock, folder)
        told.unlink(missing_ok=True)  # of one that was killed
        try:
            yield
        finally:
            told.unlink(missing_ok=True)


async def _lock(lock: IO[str], folder: Path) -> None:
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(0.02)  # one that only looks lets go at once
        else:
            return
    other = _told(folder)
    who = f"process {other.pid}, lead {other.lead}" if other else "it is starting or stopping"
    raise FolderHeld(f"codeframe is up in {folder} already ({who})")


def held(folder: Path) -> bool:
    """Whether an `up` holds a folder, be it ready or not."""
    try:
        with (folder / "up.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def running(folder: Path) -> Up | None:
    """The `up` that holds a folder and is ready; None where there is none."""
    return _told(folder) if held(folder) else None


def _told(folder: Path) -> Up | None:
    try:
        return Up(**json.loads((folder / "up.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def tell(folder: Path, up: Up) -> None:
    """Write where the servers answer: whole or not at all."""
    write_whole(folder / "up.json", json.dumps(asdict(up), indent=1))


def known_ports(folder: Path) -> dict[str, int]:
    """The ports that the servers of this folder had before."""
    try:
        ports = json.loads((folder / "ports.json").read_text())
        return {str(name): int(port) for name, port in ports.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def remember_ports(folder: Path, ports: dict[str, int]) -> None:
    """Keep the ports for the next start: attempts are bound to addresses."""
    write_whole(folder / "ports.json", json.dumps(ports))


def write_whole(path: Path, text: str) -> None:
    """Write a file by temp and rename."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.replace(path)
