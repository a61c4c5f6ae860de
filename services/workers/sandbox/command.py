"""What the sandbox is asked to run, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

MIB = 1024 * 1024


class Mode(StrEnum):
    """How commands are held: by namespaces, by Landlock and seccomp, or not at all."""

    BUBBLEWRAP = "bubblewrap"
    SANDLOCK = "sandlock"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use. Sizes in bytes.

    `memory` bounds the command's processes together (looked at twice a second), each one's writable data
    (by the kernel), and files without a name that they keep open in memory. `file_size` bounds each file
    written; `disk` all of them together, at most half of what is free (looked at twice a second); `scratch`
    the private /tmp where it is a memory file system; `output` is how much of the output is kept, half from
    its head and half from its tail.
    """

    processes: int = 512
    memory: int = 4096 * MIB
    file_size: int = 1024 * MIB
    disk: int = 16 * 1024 * MIB
    scratch: int = 1024 * MIB
    output: int = MIB

    def __post_init__(self) -> None:
        for name in ("processes", "memory", "file_size", "disk", "scratch", "output"):
            if getattr(self, name) < 1:
                raise ValueError(f"limits.{name} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. All paths are absolute; `argv[0]` is sought on `path`, then among the system's programs.

    The command sees those, `readable`, `writable` and a private empty folder at TMPDIR (which is /tmp where
    the mode can); nothing else. `hidden` lies over the system and `readable`, under a deeper `readable` or
    `writable`. A `.git` directly inside a writable path is read-only. `env` comes on top of PATH, HOME, LANG
    and TMPDIR; the worker's own environment is never passed on. `links` are symbolic links (place -> target)
    that stand while the command runs, one command at a time in a place; where something stands already, it
    stays, and folders made for them go again with all they hold. `timeout` is in seconds.
    """

    argv: tuple[str, ...]
    cwd: Path
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    path: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[Path, Path] = field(default_factory=dict)
    network: bool = False
    timeout: float = 300.0
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not self.argv:
            raise ValueError("argv must not be empty")
        if self.timeout <= 0:
            raise ValueError("timeout must be positive")
        for place in (self.cwd, *self.writable, *self.readable, *self.hidden, *self.path):
            if not place.is_absolute():
                raise ValueError(f"{place} must be an absolute path")
        for text in (*self.argv, *self.env, *self.env.values()):
            if "\0" in text:
                raise ValueError("argv and env must not contain NUL")


def shell(line: str) -> tuple[str, ...]:
    """The argv that runs `line` as a shell does."""
    return ("/bin/sh", "-c", line)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; every process it started is dead by then.

    `exit_code` is the command's own, 128 + n where signal n ended it (137 after a timeout or a bound).
    `output` is stdout and stderr as they came, UTF-8 with replacement; `dropped` bytes were left out of its
    middle, where a line says so. `exceeded` names the bound that ended the command: "memory",
    "processes" or "disk".
    `bind_denied`: it failed, and says that it may not listen on a TCP port, which its mode cannot allow.
    `duration` is in seconds.
    """

    exit_code: int
    output: str
    dropped: int
    duration: float
    mode: Mode
    timed_out: bool = False
    exceeded: str = ""
    bind_denied: bool = False
