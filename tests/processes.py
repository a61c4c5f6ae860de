"""The processes of this machine: which live, and which are whose."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that is dead but not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descendants(of: int | None = None) -> set[int]:
    """Pids of the living processes below one (default: this)."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state not in "ZX":
                parents[int(name)] = int(parent)
    found: set[int] = set()
    waiting = [of or os.getpid()]
    while waiting:
        above = waiting.pop()
        below = [pid for pid, parent in parents.items() if parent == above]
        found.update(below)
        waiting += below
    return found
