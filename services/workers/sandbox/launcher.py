"""Runs one command under Landlock and seccomp, by the `sandlock` library, in a process of its own.

Run as a program by the subreaper (`python -I launcher.py NOTES STATUS`), never imported by the worker: the
library's supervisor has threads. NOTES is a file descriptor to read the policy and the argv from, as JSON;
STATUS one to write to: `{"exit_code": n}` once the command ran. First it gives up what the library leaves to
a command: the capabilities of root, and calls that Landlock does not watch, which bound or slow another
process or set attributes of files.
"""

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from typing import Any

from sandlock import ExitReason, Sandbox

PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
# Their numbers for x86_64 and aarch64, and which arguments must be 0: so that each can only mean the caller.
# prlimit64 may still look: its third argument is what is to be set.
OWN_ONLY = {
    "x86_64": {302: (0, 2), 203: (0,), 142: (0,), 144: (0,), 314: (0,), 141: (0, 1), 251: (1,)},
    "aarch64": {261: (0, 2), 122: (0,), 118: (0,), 119: (0,), 274: (0,), 140: (0, 1), 30: (1,)},
}  # prlimit64, sched_setaffinity, sched_setparam, sched_setscheduler, sched_setattr, setpriority, ioprio_set
PRLIMIT = (302, 261)
# Landlock does not watch what stands beside a file's text. Programs do without its attributes: none may be
# set. Its mode and times they need, and a command can change those of any file of this user.
ATTRIBUTES = {
    "x86_64": (188, 189, 190, 197, 198, 199, 463, 466),
    "aarch64": (5, 6, 7, 14, 15, 16, 463, 466),
}  # setxattr, lsetxattr, fsetxattr, removexattr, lremovexattr, fremovexattr, setxattrat, removexattrat
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # words of the kernel's filter language
ALLOW, REFUSE, NOT_HERE = 0x7FFF0000, 0x00050001, 0x0005005F  # the latter two as EPERM and EOPNOTSUPP

libc = ctypes.CDLL(None, use_errno=True)


def give_up_capabilities() -> None:
    """Keep what is executed from now on from the capabilities of root; nothing where this is another user."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # there are no more, or it may not


def refused() -> bytes:
    """A filter of system calls: ATTRIBUTES, and those of OWN_ONLY where they name another process."""
    words = [(LOAD, 0, 0, 0)]  # the number of the call
    for number in ATTRIBUTES[platform.machine()]:
        words += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, NOT_HERE)]
    for number, arguments in OWN_ONLY[platform.machine()].items():
        either = number in PRLIMIT  # one that is 0 is enough; else all have to be
        checks: list[tuple[int, int, int, int]] = []
        for place, argument in enumerate(arguments):
            rest = len(arguments) - place - 1
            checks.append((LOAD, 0, 0, 16 + 8 * argument))
            # Each further check takes two words; then follow ALLOW and REFUSE.
            allowed, refused = 2 * rest, 2 * rest + 1
            checks.append(
                (JUMP_IF_EQUAL, allowed if either or not rest else 0, 0 if either and rest else refused, 0)
            )
        words += [(JUMP_IF_EQUAL, 0, len(checks) + 2, number), *checks]
        words += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    words.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *word) for word in words)


def install(program: bytes) -> None:
    """Have the kernel run the filter from now on, for whatever this process starts, too. Raises OSError."""
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    if libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot filter system calls")


def main() -> None:
    notes, status = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(notes, False)
    os.set_inheritable(status, False)
    with open(notes, encoding="utf-8") as file:
        order: dict[str, Any] = json.load(file)
    give_up_capabilities()
    install(refused())
    result = Sandbox(**order["policy"]).popen(order["argv"]).wait()
    ended_by = result.signal if result.signal and result.signal > 0 else signal.SIGKILL
    exit_code = result.exit_code if result.reason is ExitReason.EXITED else 128 + ended_by
    os.write(status, json.dumps({"exit_code": exit_code}).encode())


if __name__ == "__main__":
    main()
