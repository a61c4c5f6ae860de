"""Which sandbox modes this machine allows, found out without the code under test."""

import subprocess
from functools import cache

import pytest
import sandlock

from services.workers.sandbox import Mode
from services.workers.sandbox.bubblewrap import find_programs


@cache
def allows(mode: Mode) -> bool:
    """Whether the kernel and what is installed allow the mode."""
    if mode is Mode.SANDLOCK:
        return bool(sandlock.landlock_abi_version() >= sandlock.min_landlock_abi())
    if mode is Mode.BUBBLEWRAP:
        trial = ("--unshare-all", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true")
        return any(
            subprocess.run((program, *trial), check=False).returncode == 0 for program in find_programs()
        )
    return True


def each_mode(*modes: Mode) -> list[object]:
    """Parameters for a fixture: one for each of these modes, skipped where this machine does not allow it."""
    reason = "not allowed on this machine"
    return [pytest.param(mode, marks=pytest.mark.skipif(not allows(mode), reason=reason)) for mode in modes]
