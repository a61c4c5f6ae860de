"""Reading a file of a folder that commands could write: it may be a link, a pipe, or endless."""

import os
import stat
from pathlib import Path

from services.workers.verification.parse import ReportError

MOST_BYTES = 16 << 20


def read_file(place: Path, root: Path) -> bytes | None:
    """The bytes of a file inside `root`; None where there is none. A link, and all but a plain file, is none.

    Raises ReportError where it is larger than 16 MiB.
    """
    if not is_inside(place, root):
        return None
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            return None
        if about.st_size > MOST_BYTES:
            raise ReportError(f"{place.name} is larger than {MOST_BYTES >> 20} MiB")
        return file.read(MOST_BYTES)


def is_inside(place: Path, root: Path) -> bool:
    """Whether the folder of `place` lies in `root`, wherever links lead."""
    return Path(os.path.realpath(place.parent)).is_relative_to(root)
