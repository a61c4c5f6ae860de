"""Which sandbox modes this machine allows, found out without the code under test."""

import subprocess
from collections.abc import Sequence
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


def each_mode(*modes: Mode, thorough: Sequence[Mode] = ()) -> list[object]:
    """Parameters for a fixture: one for each of these modes, skipped where this machine does not allow it.

    Those that are also named in `thorough` are left to `make thorough`.
    """
    return [pytest.param(mode, marks=_marks(mode, mode in thorough)) for mode in modes]


def _marks(mode: Mode, thorough: bool) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.skipif(not allows(mode), reason="not allowed on this machine")]
    return [*marks, pytest.mark.thorough] if thorough else marks
