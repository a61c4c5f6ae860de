"""Gives up what the library leaves to a command, then runs it under the policy that the worker wrote.

NOTES is a file descriptor to read the order from, as JSON; STATUS one to write to: `{"exit_code": n}` once
the command ran.
"""

import json
import os
import signal
import sys
from typing import Any

from sandlock import ExitReason, Sandbox, landlock_abi_version, min_landlock_abi

from services.workers.launcher.attributes import Attributes
from services.workers.launcher.rights import give_up_capabilities, install, refused
from services.workers.launcher.shared_memory import SharedMemory
from services.workers.launcher.watches import Watches

# With handlers the library keeps what the command says. So it says it to the one descriptor that it keeps
# open beside: the launcher's stdin, which is where the output goes.
TO_STDIN = ("/bin/sh", "-c", 'exec "$@" >&0 2>&0 </dev/null', "sh")


def main() -> None:
    notes, status = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(notes, False)
    os.set_inheritable(status, False)
    with open(notes, encoding="utf-8") as file:
        order: dict[str, Any] = json.load(file)
    os.dup2(1, 0)
    give_up_capabilities()
    install(refused())
    handlers = [
        *Attributes(order["writable"], order["guarded"]).handlers(),
        *Watches([*order["policy"]["fs_readable"], *order["writable"]]).handlers(),
        *SharedMemory().handlers(),
    ]
    result = Sandbox(**order["policy"]).run_with_handlers([*TO_STDIN, *order["argv"]], handlers)
    if result.error:
        found, needed = landlock_abi_version(), min_landlock_abi()
        raise SystemExit(f"{result.error} (Landlock's version is {found}; it takes {needed}, and seccomp)")
    ended_by = result.signal if result.signal and result.signal > 0 else signal.SIGKILL
    exit_code = result.exit_code if result.reason is ExitReason.EXITED else 128 + ended_by
    os.write(status, json.dumps({"exit_code": exit_code}).encode())
    os._exit(0)  # a thread of the library may still be in a handler, and Python would end it in an odd way


if __name__ == "__main__":
    main()
