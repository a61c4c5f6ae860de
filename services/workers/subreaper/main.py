"""Starts a command, watches it, and tells how it ended."""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

from services.workers.subreaper.bounds import Disk, Held, shared_memory, unlinked
from services.workers.subreaper.kept import Kept
from services.workers.subreaper.links import Links, remove
from services.workers.subreaper.processes import kill_everything, reap, threads_of_machine, weigh

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
STDIN, STDOUT = 0, 1
TICK = 0.05  # seconds between two looks at the clock and the number of threads
WEIGH = 0.5  # seconds between two looks at the memory and the disk

libc = ctypes.CDLL(None, use_errno=True)
stopping: list[bool] = []


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


def watch(
    order: dict[str, Any], main: int, output: int, kept: Kept, wake: int, disk: Disk
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
