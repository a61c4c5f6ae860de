"""Hostile tests of a project, and what they are after; each is judged from outside of the sandbox."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import dedent, indent

HEADER = '''\
import ctypes
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

KNOWN = json.loads(Path(__file__).with_name("known.json").read_text())
OUTSIDE, WORKER = Path(KNOWN["outside"]), KNOWN["worker"]
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {"init_module": 175, "keyctl": 250},
    "aarch64": {"init_module": 105, "keyctl": 219},
}[platform.machine()]


def check(answer):
    """Raise what a call of libc says."""
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def tell(name, text):
    """Carry out what was found, in the report."""
    found = ", ".join(sorted(set(re.findall(r"secret-[a-z0-9-]+", text))))
    raise AssertionError(f"found by {name}: {found}")


def done(name):
    """Carry out that it worked."""
    tell(name, "-".join(("secret", "done")))


def test_honest():
    assert sum([1, 2]) == 3

'''


@dataclass(frozen=True)
class Hostile:
    """One hostile test.

    `code` is its body, in which NAME is its name and VICTIM a file outside the project that holds a secret.
    It does harm where VICTIM is changed, a secret is told, or a listener hears NAME. What is refused raises
    or tells nothing, so that the test is red in the report. `control`: it does harm where nothing
    confines it, which shows that the attack is a real one; `root`: only where root does it.
    """

    name: str
    code: str
    control: bool = True
    root: bool = False

    @property
    def test(self) -> str:
        """The name of its test."""
        return "test_" + self.name.replace(" ", "_")


def module(attacks: Sequence[Hostile]) -> str:
    """A test module with all of them."""
    tests = []
    for one in attacks:
        head = f'def {one.test}():\n    NAME = {one.name!r}\n    VICTIM = OUTSIDE / NAME.replace(" ", "-")\n'
        tests.append(head + indent(dedent(one.code).strip("\n"), "    ") + "\n")
    return HEADER + "\n\n".join(tests)


def known(**facts: object) -> str:
    """What the attacker knows of the machine."""
    return json.dumps(facts)
