"""The small process that stands between the worker and one command.

Run as a program (`python -I -S subreaper.py`), never imported by the worker; needs only the standard library.
It reads one line of JSON, the order, from stdin; starts the command in a session of its own; and when the
command ends, its time is over, a bound is passed, stdin closes or the worker dies, kills and reaps every
descendant, whatever sessions and parents they gave themselves. Then it writes one line of JSON and the output
that was kept. As there is one for each command, every orphan it inherits is that command's.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
STDIN, STDOUT = 0, 1
TICK = 0.05  # seconds between two looks at the clock and the number of threads
WEIGH = 0.5  # seconds between two looks at the memory and the disk
CHUNK = 1 << 18
PAGE = resource.getpagesize()

libc = ctypes.CDLL(None, use_errno=True)


def read_order() -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(STDIN, 1 << 16)
        if not piece:
            sys.exit(0)  # the worker changed its mind
        line += piece
    order: dict[str, Any] = json.loads(line)
    return order


def start(order: dict[str, Any], output: int, status: int, notes: int | None) -> int:
    """Fork and exec the command; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_RDONLY), STDIN)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for fd in (status, notes):
            if fd is not None:
                os.set_inheritable(fd, True)
        with open("/proc/self/oom_score_adj", "w") as adjust:
            adjust.write("700")  # where memory runs out, the kernel takes a command before the worker
        os.nice(5)
        for name, bound in order["rlimits"].items():
            which = getattr(resource, "RLIMIT_" + name)
            _, hard = resource.getrlimit(which)
            if hard != resource.RLIM_INFINITY:
                bound = min(bound, hard)
            resource.setrlimit(which, (bound, bound))
        os.chdir(order["cwd"])
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except OSError as problem:
        os.write(2, f"cannot run {order['argv'][0]}: {problem.strerror}\n".encode())
    finally:
        os._exit(127)


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


def remove(folder: str) -> None:
    """Remove a folder with all that it holds, however deep: Python's own way is a recursion."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
    os.waitpid(os.posix_spawn("/bin/rm", ["rm", "-rf", "--", folder], {}, file_actions=silent), 0)


class Links:
    """The links of a command: what stands in their way stays, and what was made for them goes.

    A place is only used where no link leads to it: the tree belongs to commands that nobody trusts.
    """

    def __init__(self, wanted: dict[str, str]) -> None:
        self.wanted = wanted
        self.made: list[str] = []
        self.folders: list[str] = []

    def make(self) -> str:
        """Make them; a line for each that could not be made."""
        problems = ""
        for place, target in self.wanted.items():
            try:
                if os.path.islink(place) and os.readlink(place) == target:
                    os.unlink(place)  # left behind by a process that was killed
                if os.path.lexists(place):
                    continue
                self.make_folder(os.path.dirname(place))
                os.symlink(target, place)
                self.made.append(place)
            except OSError as problem:
                problems += f"cannot link {place}: {problem.strerror}\n"
        return problems

    def make_folder(self, folder: str) -> None:
        if not os.path.lexists(folder):
            self.make_folder(os.path.dirname(folder))
            os.mkdir(folder)
            self.folders.append(folder)
        elif os.path.realpath(folder) != folder:
            raise OSError(0, f"{folder} is not where it seems")

    def remove(self) -> None:
        """Remove them, and the folders made for them with all that they hold."""
        for place in self.made:
            with suppress(OSError):
                if os.path.realpath(os.path.dirname(place)) == os.path.dirname(place) and os.path.islink(
                    place
                ):
                    os.unlink(place)
        for folder in reversed(self.folders):
            if os.path.realpath(folder) == folder:
                remove(folder)


class Kept:
    """The head and the tail of an output of any length."""

    def __init__(self, bound: int) -> None:
        self.head, self.tail, self.half, self.total = bytearray(), bytearray(), max(1, bound // 2), 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self.half - len(self.head)
        self.head += data[:room]
        self.tail += data[room:] if room > 0 else data
        if len(self.tail) > 8 * self.half + CHUNK:
            del self.tail[: -self.half]

    def drain(self, fd: int) -> bool:
        """Take what stands in a non-blocking pipe, up to its capacity; False once nobody can write to it."""
        for _ in range(64):
            try:
                data = os.read(fd, CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.add(data)
        return True

    def done(self) -> int:
        """Clip the tail; how many bytes were left out between head and tail."""
        del self.tail[: -self.half]
        return self.total - len(self.head) - len(self.tail)


def watch(
    order: dict[str, Any], main: int, output: int, kept: Kept, wake: int, disk: "Disk"
) -> tuple[int | None, str]:
    """Wait until the command must end; (its exit code or None, what ended it)."""
    deadline = time.monotonic() + order["timeout"]
    next_weighing = time.monotonic()
    files = Held(shared_memory, lambda _: unlinked(disk.devices, on_them=False), order["memory"])
    written = Held(disk.used, disk.own, min(order["disk"], disk.free() // 2))
    threads = threads_of_machine()
    poll = select.poll()
    for fd in (STDIN, output, wake):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll(TICK * 1000):
            if fd == STDIN:
                return None, "cancelled"
            if fd == wake:
                os.read(wake, 512)
            elif not kept.drain(output):
                poll.unregister(output)
        codes, _ = reap()
        if main in codes:
            return codes[main], ""
        if stopping:
            return None, "cancelled"
        now = time.monotonic()
        if now >= deadline:
            return None, "timeout"
        if now >= next_weighing or threads_of_machine() - threads > order["processes"]:
            next_weighing = now + WEIGH
            count, held = weigh()
            if count > order["processes"]:
                return None, "processes"
            if held > order["memory"] or files.over():
                return None, "memory"
            if written.over():
                return None, "disk"


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


stopping: list[bool] = []


def main() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.setsid()
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = read_order()

    output, output_end = os.pipe()
    status, status_end = os.pipe()
    os.set_blocking(output, False)
    os.set_blocking(status, False)
    notes = None
    if order["notes"] is not None:
        notes = os.memfd_create("notes")
        os.write(notes, json.dumps(order["notes"]).encode())
        os.lseek(notes, 0, os.SEEK_SET)
    order["argv"] = [
        {"{status}": str(status_end), "{notes}": str(notes)}.get(word, word) for word in order["argv"]
    ]
    if order["scratch"]:
        os.makedirs(order["scratch"] + "/home", mode=0o700)

    kept, links, began = Kept(order["output"]), Links(order["links"]), time.monotonic()
    try:
        kept.add(links.make().encode())
        disk = Disk([*order["places"], *filter(None, [order["scratch"]])])
        pid = start(order, output_end, status_end, notes)
        os.close(output_end)
        os.close(status_end)
        code, ended_by = watch(order, pid, output, kept, woken, disk)
        duration = time.monotonic() - began
    finally:
        codes = kill_everything()
        links.remove()
        if order["scratch"]:
            remove(order["scratch"])
    if ended_by == "cancelled":
        return  # nobody waits for an answer
    kept.drain(output)
    said = Kept(1 << 16)
    said.drain(status)
    dropped = kept.done()
    report = {
        "exit_code": codes.get(pid) if code is None else code,
        "ended_by": ended_by,
        "duration": duration,
        "dropped": dropped,
        "head": len(kept.head),
        "status": bytes(said.head).decode(errors="replace"),
    }
    answer = memoryview(json.dumps(report).encode() + b"\n" + kept.head + kept.tail)
    while answer:
        answer = answer[os.write(STDOUT, answer) :]


if __name__ == "__main__":
    main()
