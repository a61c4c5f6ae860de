"""Holding a command by Landlock and seccomp, with the `sandlock` library: its policy, in words.

Landlock only allows. So a hidden place is one that nothing allows: a readable place that holds a hidden one
is allowed child by child, around it.

Landlock alone sees neither MPTCP nor TCP fast open. With an address to allow, the library's supervisor makes
every connection itself and refuses all others. (A callback of ours could watch binds as well, but it makes
each exec many times slower, and with no address to allow it lets every connection through.) What is left is
to wait for a connection, by MPTCP or by a listen() without a bind(): on a port that nobody was told.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.workers.sandbox.command import Command
from services.workers.sandbox.errors import SandboxError
from services.workers.sandbox.view import View, decide, variables

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
# As asyncio and socket.create_server, socket.bind under pytest, node, and perror or Go say it.
BIND_DENIED = re.compile(
    r"while attempting to bind on address|\.bind\(.*\n(?:.*\n){0,12}?.*PermissionError: \[Errno 13\]"
    r"|\b(?:listen|bind) EACCES\b|\bbind: permission denied",
    re.IGNORECASE,
)
MOST_RULES = 20_000
# Reserved for documentation: nothing is there.
NOWHERE = "tcp://192.0.2.1:9"


def order(command: Command, view: View, tmp: Path) -> dict[str, Any]:
    """What the launcher is to do, with a policy for `sandlock.Sandbox`; `tmp` is the command's own folder."""
    readable = list(_allowed("readable", view))
    writable = [*_allowed("writable", view), str(tmp)]
    guarded = [str(place) for place in view.guarded]
    if len(readable) + len(writable) > MOST_RULES:
        raise SandboxError(
            "the hidden places lie too deep in the readable ones to go around; name smaller ones"
        )
    policy = {
        "fs_readable": [*readable, "/proc"],
        "fs_writable": [*writable, *(device for device in DEVICES if os.path.exists(device))],
        "fs_denied": guarded,
        "net_allow": ["*:*"] if command.network else [NOWHERE],
        "net_allow_bind": ["*"] if command.network else [],
        "max_processes": command.limits.processes,
        "cwd": str(command.cwd),
        "clean_env": True,
        "env": variables(command, tmp),
    }
    return {"argv": command.argv, "policy": policy, "writable": writable, "guarded": guarded}


def ended(status: str) -> int | None:
    """The exit code that the launcher told; None where the command never ran."""
    code = json.loads(status)["exit_code"] if status else None
    return code if isinstance(code, int) else None


def bind_denied(output: str) -> bool:
    """Whether the output of a command that failed says that it may not listen on a TCP port."""
    return BIND_DENIED.search(output) is not None


def _allowed(kind: str, view: View) -> Iterator[str]:
    for place in view.readable if kind == "readable" else view.writable:
        if place.exists() and decide(place, view) == kind:
            yield from _around(place, view)


def _around(place: Path, view: View) -> Iterator[str]:
    """`place`, or what it holds except the hidden."""
    if decide(place, view) == "hidden":
        return
    if any(hidden != place and hidden.is_relative_to(place) for hidden in view.hidden) and place.is_dir():
        for child in sorted(place.iterdir()):
            yield from _around(child, view)
    else:
        yield str(place)
