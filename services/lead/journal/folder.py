"""The lead's data folder, held by one lead at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.lead.journal import StoreFailed


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder, made where it is missing; the kernel lets go of it when the process ends, however.

    Raises StoreFailed where another process holds it, or it cannot be made or written.
    """
    lock = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreFailed(f"data folder {folder}: {error.strerror}; give one that can be written") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
            by = f" (process {holder})" if holder else ""
            raise StoreFailed(
                f"data folder {folder} is in use by another lead{by}; stop it, or give another folder"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
