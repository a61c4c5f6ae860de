"""What a command takes of the disk, and of the memory for files, which the whole machine shares."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from services.workers.subreaper.processes import descendants, processes


class Held:
    """What a command takes of a store that the whole machine shares: its disk, or its memory for files.

    How much of the store is in use is cheap to ask, but others use it as well; so what the command itself
    holds is looked at only once the whole has grown by as much as would take it over its bound.
    """

    def __init__(self, used: Callable[[], int], own: Callable[[int], int], bound: int) -> None:
        self.used, self.own, self.bound = used, own, bound
        self.look_at = used() + bound

    def over(self) -> bool:
        """Whether the command holds more than its bound."""
        used = self.used()
        if used < self.look_at:
            return False
        own = self.own(self.bound)
        self.look_at = used + max(1, self.bound - own)
        return own > self.bound


def shared_memory() -> int:
    """Bytes of memory that files hold, of the whole machine."""
    with open("/proc/meminfo") as info:
        for line in info:
            if line.startswith("Shmem:"):
                return int(line.split()[1]) * 1024
    return 0


def unlinked(devices: set[int], on_them: bool) -> int:
    """Bytes of the files without a name that descendants hold open: those on `devices`, or all others."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in descendants(processes()):
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    found = os.stat(f"/proc/{pid}/fd/{fd}")
                    if found.st_nlink == 0 and (found.st_dev in devices) == on_them:
                        sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())


class Disk:
    """The writable folders of a command; what it wrote since the start is known by the time of change."""

    def __init__(self, places: list[str]) -> None:
        self.places = places
        self.since = time.time() - 1.0  # file systems keep a coarser clock
        self.devices = {os.stat(place).st_dev for place in places}

    def used(self) -> int:
        """Bytes in use on all their file systems, by whomever."""
        one_each = {os.stat(place).st_dev: place for place in self.places}
        found = map(os.statvfs, one_each.values())
        return sum((stat.f_blocks - stat.f_bfree) * stat.f_frsize for stat in found)

    def free(self) -> int:
        """Bytes that may still be written, where there is the least room."""
        room = [stat.f_bavail * stat.f_frsize for stat in map(os.statvfs, self.places)]
        return min(room, default=sys.maxsize)

    def own(self, bound: int) -> int:
        """Bytes written since the start; more than `bound` where a folder cannot be looked at."""
        held, waiting = unlinked(self.devices, on_them=True), list(self.places)
        try:
            while waiting and held <= bound:
                with suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        with suppress(FileNotFoundError):
                            found = entry.stat(follow_symlinks=False)
                            if found.st_ctime >= self.since:
                                held += found.st_blocks * 512
                            if entry.is_dir(follow_symlinks=False):
                                waiting.append(entry.path)
        except OSError:  # its path is too long, or its mode forbids it
            return bound + 1
        return held
