"""Runs one command under Landlock and seccomp, by the `sandlock` library, in a process of its own.

Run as a program by the subreaper (`python -I launcher.py NOTES STATUS`), never imported by the worker: the
library's supervisor has threads. NOTES is a file descriptor to read the policy and the argv from, as JSON;
STATUS one to write to: `{"exit_code": n}` once the command ran.
"""

import json
import os
import signal
import sys
from typing import Any

from sandlock import ExitReason, Sandbox


def main() -> None:
    notes, status = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(notes, False)
    os.set_inheritable(status, False)
    with open(notes, encoding="utf-8") as file:
        order: dict[str, Any] = json.load(file)
    result = Sandbox(**order["policy"]).popen(order["argv"]).wait()
    ended_by = result.signal if result.signal and result.signal > 0 else signal.SIGKILL
    exit_code = result.exit_code if result.reason is ExitReason.EXITED else 128 + ended_by
    os.write(status, json.dumps({"exit_code": exit_code}).encode())


if __name__ == "__main__":
    main()
