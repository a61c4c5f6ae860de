"""What the library leaves to a command and nobody needs: capabilities of root, and calls that Landlock does
not watch, which bound or slow another process or set attributes of files."""

import ctypes
import platform
import struct

PR_SET_SECCOMP, PR_CAPBSET_DROP = 22, 24
CAPABILITIES_VERSION = 0x20080522
# Their numbers for x86_64 and aarch64, and which arguments must be 0: so that each can only mean the caller.
# prlimit64 may still look: its third argument is what is to be set.
OWN_ONLY = {
    "x86_64": {302: (0, 2), 203: (0,), 142: (0,), 144: (0,), 314: (0,), 141: (0, 1), 251: (1,)},
    "aarch64": {261: (0, 2), 122: (0,), 118: (0,), 119: (0,), 274: (0,), 140: (0, 1), 30: (1,)},
}  # prlimit64, sched_setaffinity, sched_setparam, sched_setscheduler, sched_setattr, setpriority, ioprio_set
PRLIMIT = (302, 261)
# Programs do without a file's extended attributes, and without watching whole file systems.
ATTRIBUTES = {
    "x86_64": (188, 189, 190, 197, 198, 199, 463, 466, 469, 300),
    "aarch64": (5, 6, 7, 14, 15, 16, 463, 466, 469, 262),
}  # setxattr, lsetxattr, fsetxattr, removexattr, lremovexattr, fremovexattr, setxattrat, removexattrat,
# file_setattr, fanotify_init
IOCTL = {"x86_64": 16, "aarch64": 29}
# The kinds of ioctl of file systems: through what may only be read, its owner sets flags, version and project
# of a file, and makes subvolumes in a folder.
FILE_SYSTEMS = (ord("f"), ord("v"), ord("X"), 0x94)
X32 = 0x40000000  # numbers from here on are the same calls again, which no other filter would know
LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_NOT_LESS, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # the filter language
# To go on, and to refuse as EPERM, EOPNOTSUPP and ENOSYS.
ALLOW, REFUSE, NOT_SUPPORTED, NO_SUCH_CALL = 0x7FFF0000, 0x00050001, 0x0005005F, 0x00050026

libc = ctypes.CDLL(None, use_errno=True)


def give_up_capabilities() -> None:
    """Give up the capabilities of root, for what is executed from now on, too. Raises OSError."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # there are no more, or it may not
    nothing = bytes(2 * 3 * 4)  # twice 32 of them: effective, permitted, inheritable
    if libc.capset(struct.pack("=Ii", CAPABILITIES_VERSION, 0), nothing) < 0:
        raise OSError(ctypes.get_errno(), "cannot give up capabilities")


def refused() -> bytes:
    """A filter of system calls: it refuses ATTRIBUTES, FILE_SYSTEMS and OWN_ONLY of another process."""
    machine = platform.machine()
    words = [(LOAD, 0, 0, 0)]  # the number of the call
    words += [(JUMP_IF_NOT_LESS, 0, 1, X32), (RETURN, 0, 0, NO_SUCH_CALL)]
    for number in ATTRIBUTES[machine]:
        words += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, NOT_SUPPORTED)]
    for number, arguments in OWN_ONLY[machine].items():
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
    kinds: list[tuple[int, int, int, int]] = [(LOAD, 0, 0, 24), (AND, 0, 0, 0xFF00)]
    for kind in FILE_SYSTEMS:
        kinds += [(JUMP_IF_EQUAL, 0, 1, kind << 8), (RETURN, 0, 0, NOT_SUPPORTED)]
    words += [(JUMP_IF_EQUAL, 0, len(kinds), IOCTL[machine]), *kinds]
    words.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *word) for word in words)


def install(program: bytes) -> None:
    """Have the kernel run the filter from now on, for whatever this process starts, too. Raises OSError."""
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    if libc.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "cannot filter system calls")
