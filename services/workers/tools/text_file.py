"""Text files, read and written whole: UTF-8, at most 1 MiB, changed by temp file and rename."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from services.workers.tools.place import Place
from services.workers.tools.tool import ToolError
from services.workers.workspace.worktree import HALF_WRITTEN

MAX_BYTES = 1024 * 1024
NEW_FILE_MODE = 0o644


def read(place: Place) -> str:
    """Return the file's text, line ends as they are.

    Raises ToolError where there is no regular file, it is over 1 MiB, or it is not UTF-8 text.
    """
    try:
        with open(place.path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ToolError(f"{place.name}: is not a regular file")
            if status.st_size > MAX_BYTES:
                raise ToolError(f"{place.name}: is over 1 MiB ({status.st_size} bytes); use grep")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ToolError(f"{place.name}: there is no such file") from None
    except OSError as error:
        raise ToolError(f"{place.name}: {error.strerror}") from error
    if b"\0" in data:
        raise ToolError(f"{place.name}: is a binary file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolError(f"{place.name}: is not UTF-8 text (at byte {error.start})") from error


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: to open a named pipe must not wait for its other end.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def check_writable(place: Place, text: str) -> None:
    """Raise ToolError where `text` cannot become that file: it is too long, or something else is there."""
    if len(text.encode()) > MAX_BYTES:
        raise ToolError(f"{place.name}: the content is over 1 MiB; split the file")
    if os.path.lexists(place.path) and not place.path.is_file():
        raise ToolError(f"{place.name}: is not a regular file")


def write(place: Place, text: str) -> None:
    """Make `text` the file's whole content, at once or not at all; its mode stays, its folders are made.

    Raises ToolError where that cannot be.
    """
    check_writable(place, text)
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(place.path.stat().st_mode) if place.path.exists() else NEW_FILE_MODE
        _replace(place.path, text.encode(), mode)
    except OSError as error:
        raise ToolError(f"{place.name}: {error.strerror}") from error


def _replace(path: Path, data: bytes, mode: int) -> None:
    handle, temporary = tempfile.mkstemp(prefix=HALF_WRITTEN, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            os.fchmod(handle, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def delete(place: Place) -> None:
    """Delete the file. Raises ToolError where there is none, or something else is there."""
    if not os.path.lexists(place.path):
        raise ToolError(f"{place.name}: there is no such file")
    if not place.path.is_file():
        raise ToolError(f"{place.name}: is not a regular file; only files are deleted")
    try:
        place.path.unlink()
    except OSError as error:
        raise ToolError(f"{place.name}: {error.strerror}") from error
