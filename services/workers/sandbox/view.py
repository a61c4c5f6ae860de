"""What a command may see of the machine: the same view for every mode, worked out from paths alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.workers.sandbox.command import Command

SYSTEM = tuple(
    map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store"))
)

# Of /etc, what programs need to run and to reach a registry; never the whole, which holds keys and hashes.
ETC = tuple(
    Path("/etc", name)
    for name in (
        "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts",
        "gai.conf", "group", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
        "locale.alias", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "passwd",
        "pip.conf", "pki/tls/certs", "pki/ca-trust", "profile", "protocols", "resolv.conf", "rpc", "services",
        "shells", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "uv/uv.toml",
    )
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
    readable = [place for place in (*SYSTEM, *ETC, *command.readable) if os.path.lexists(place)]
    readable += [Path(os.path.realpath(place)) for place in ETC if place.is_symlink()]
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
