"""What a command may see of the machine: the same view for every mode, worked out from paths alone."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.workers.sandbox.command import Command

SYSTEM = tuple(
    map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store"))
)

# Of /etc, what programs need to run and to reach a registry; never the whole, which holds keys and hashes.
ETC = (
    "alternatives", "*-release", "*_version", "bash.bashrc", "ca-certificates*", "crypto-policies", "fonts",
    "gai.conf", "group", "host.conf", "hosts", "inputrc", "java*", "ld.so.*", "locale.*", "localtime",
    "magic*", "mime.types", "networks", "npmrc", "nsswitch.conf", "passwd", "perl", "php", "pip.conf",
    "pki/ca-trust", "pki/tls/certs", "profile", "protocols", "python*", "resolv.conf", "rpc", "services",
    "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "uv/uv.toml", "xml",
)  # fmt: skip

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
HOME = "home"  # inside the private /tmp


@dataclass(frozen=True, slots=True)
class View:
    """The places of one command. Where two overlap the deeper decides; on the same place, the later here."""

    readable: tuple[Path, ...]
    hidden: tuple[Path, ...]
    guarded: tuple[Path, ...]
    """Inside a writable place, but never written: its `.git`."""
    writable: tuple[Path, ...]


def view_of(command: Command, hidden: Iterable[Path]) -> View:
    """What `command` sees where `hidden` is hidden from every command. Reads links, nothing else."""
    etc = [Path("/etc", name) for pattern in ETC for name in glob.iglob(pattern, root_dir="/etc")]
    readable = [place for place in (*SYSTEM, *etc, *command.readable) if os.path.lexists(place)]
    readable += [Path(os.path.realpath(place)) for place in etc if place.is_symlink()]
    covered = {*hidden, *command.hidden}
    covered |= {Path(os.path.realpath(place)) for place in covered}
    guarded = [place / ".git" for place in command.writable if os.path.lexists(place / ".git")]
    return View(_sorted(readable), _sorted(covered), _sorted(guarded), _sorted(command.writable))


def decide(place: Path, view: View) -> str:
    """What `place` itself is in `view`: "hidden", "readable", "writable", or "" where nothing names it."""
    answer, depth = "", -1
    for kind, places in (("readable", view.readable), ("hidden", view.hidden), ("writable", view.writable)):
        for root in places:
            if place.is_relative_to(root) and len(root.parts) >= depth:
                answer, depth = kind, len(root.parts)
    return answer


def variables(command: Command, tmp: Path) -> dict[str, str]:
    """The whole environment of `command`, whose private /tmp is seen at `tmp`."""
    return {
        "PATH": ":".join([*map(str, command.path), *SYSTEM_PATH]),
        "HOME": str(tmp / HOME),
        "LANG": "C.UTF-8",
        "TMPDIR": str(tmp),
        **command.env,
    }


def _sorted(places: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(set(places), key=lambda place: (len(place.parts), place)))
