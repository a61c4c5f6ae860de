"""The descendants of this process: what they take, and their end."""

import os
import resource
import signal
import time
from contextlib import suppress

PAGE = resource.getpagesize()


def children() -> list[int]:
    """Pids of the direct children of this process, zombies too."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as listing:
            return [int(pid) for pid in listing.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid, (parent, _) in processes().items() if parent == me]


def processes() -> dict[int, tuple[int, int]]:
    """Of every process that can be seen: pid -> (its parent's pid, bytes of its own memory)."""
    found: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat, open(f"/proc/{name}/statm", "rb") as statm:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
                    _, resident, shared = statm.read().split()[:3]
            except (OSError, ValueError, IndexError):
                continue
            found[int(name)] = (parent, (int(resident) - int(shared)) * PAGE)
    return found


def descendants(everyone: dict[int, tuple[int, int]]) -> list[int]:
    """Of what `processes` found, those that descend from this process."""
    offspring: dict[int, list[int]] = {}
    for pid, (parent, _) in everyone.items():
        offspring.setdefault(parent, []).append(pid)
    found, waiting = [], list(offspring.get(os.getpid(), ()))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(offspring.get(pid, ()))
    return found


def weigh() -> tuple[int, int]:
    """How many descendants this process has, and how much memory of their own they hold."""
    everyone = processes()
    own = descendants(everyone)
    return len(own), sum(everyone[pid][1] for pid in own)


def threads_of_machine() -> int:
    with open("/proc/loadavg") as load:
        return int(load.read().split()[3].partition("/")[2])


def reap() -> tuple[dict[int, int], bool]:
    """Reap what is dead: {pid: exit code}, and whether any child is left."""
    codes: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes, False
        if pid == 0:
            return codes, True
        codes[pid] = os.waitstatus_to_exitcode(status)


def kill_everything() -> dict[int, int]:
    """Return when no descendant is left; {pid: exit code} of those that died here.

    Only direct children are ever signalled, and their process groups: they are unreaped, so no pid can have
    become somebody else's. What a dead child leaves behind becomes a direct child of this process.
    """
    codes: dict[int, int] = {}
    me, pause = os.getpgrp(), 0.0
    while True:
        for pid in children():
            with suppress(ProcessLookupError, PermissionError):
                group = os.getpgid(pid)
                if group != me:
                    os.killpg(group, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        dead, more = reap()
        codes.update(dead)
        if not more:
            return codes
        pause = 0.0 if dead else min(pause + 0.0005, 0.02)
        time.sleep(pause)
