"""The lead's copies of artifacts: files, whole or not there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from services.lead.machine.events import ArtifactHeld

LIMIT = 16 * 1024 * 1024
"""Bytes of an artifact, at most."""

CHUNK = 256 * 1024
"""Bytes read or written at a time, at most: the loop is held up no longer."""

_SYNC_EVERY = 1024 * 1024
_LONGEST_NAME = 200


class ArtifactError(Exception):
    """An artifact cannot be held; the message says why and what to do."""


class ArtifactDiffers(ArtifactError):
    """The bytes are not those that the worker told of; asking for them again may give the right ones."""


class ArtifactStore:
    """Artifacts by attempt and name, in a folder for each run.

    An attempt's id begins with its run's id and a dot, and a run's id holds no dot.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(
        self, run_id: str, attempt_id: str, artifact: ArtifactHeld, chunks: AsyncIterator[bytes]
    ) -> None:
        """Hold an artifact: durable and whole once this returns. One that is held is not read again.

        Raises ArtifactDiffers where size or sha256 are others, ArtifactError where it is too large or
        cannot be written, and what `chunks` raises. Then, and when cancelled, nothing is held. `chunks`
        is closed, if it can be.
        """
        if run_id != _run_id(attempt_id):
            raise ValueError(f"attempt {attempt_id} is not of run {run_id}")
        try:
            if artifact.size > LIMIT:
                raise ArtifactError(f"{artifact.name} has {artifact.size} bytes, over {LIMIT}")
            path = self._path(attempt_id, artifact.name)
            with _storing(artifact):
                if path.exists() and path.stat().st_size == artifact.size:
                    return
                _make_durable_folder(path.parent)
            partial = path.with_name(f".{path.name}")
            try:
                await _copy(partial, artifact, chunks)
                with _storing(artifact):
                    partial.rename(path)
                    _sync_folder(path.parent)
            finally:
                partial.unlink(missing_ok=True)
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def read(self, attempt_id: str, name: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield an artifact's bytes from an offset to the end, at most CHUNK at a time.

        Raises FileNotFoundError, at the first, where it is not held.
        """
        with self._path(attempt_id, name).open("rb", buffering=0) as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk
                await asyncio.sleep(0)

    async def read_whole(self, attempt_id: str, name: str) -> bytes | None:
        """An artifact's bytes; None where it is not held."""
        try:
            return b"".join([chunk async for chunk in self.read(attempt_id, name)])
        except FileNotFoundError:
            return None

    def held(self, attempt_id: str, name: str) -> bool:
        """Whether an artifact is here."""
        return self._path(attempt_id, name).exists()

    async def delete_run(self, run_id: str) -> None:
        """Delete all artifacts of a run; none are held is fine."""
        run = self._folder / _safe(run_id)
        attempts = list(run.iterdir()) if run.exists() else []
        for attempt in attempts:
            for file in list(attempt.iterdir()):
                file.unlink(missing_ok=True)
            attempt.rmdir()
            await asyncio.sleep(0)
        if run.exists():
            run.rmdir()

    def _path(self, attempt_id: str, name: str) -> Path:
        return self._folder / _safe(_run_id(attempt_id)) / _safe(attempt_id) / _safe(name)


async def _copy(path: Path, artifact: ArtifactHeld, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks to a file, durably, and see that they are what was told."""
    digest, size, unsynced = hashlib.sha256(), 0, 0
    with _storing(artifact):
        file = path.open("wb", buffering=0)
    with file:
        async for chunk in chunks:
            size += len(chunk)
            if size > artifact.size:
                raise ArtifactDiffers(f"{artifact.name} has more than the {artifact.size} bytes told")
            for start in range(0, len(chunk), CHUNK):
                piece = chunk[start : start + CHUNK]
                digest.update(piece)
                unsynced += len(piece)
                with _storing(artifact):
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[file.write(rest) :]
                    if unsynced >= _SYNC_EVERY:  # So there is never more than that to wait for.
                        os.fdatasync(file.fileno())
                        unsynced = 0
                await asyncio.sleep(0)
        with _storing(artifact):
            os.fsync(file.fileno())
    if size != artifact.size or digest.hexdigest() != artifact.sha256:
        raise ArtifactDiffers(f"{artifact.name} has other bytes than its size and sha256 tell")


@contextmanager
def _storing(artifact: ArtifactHeld) -> Iterator[None]:
    """What the file system refuses is told as such, and not taken for what `chunks` raises."""
    try:
        yield
    except OSError as error:
        why = f"{error.strerror}; see to the lead's data folder"
        raise ArtifactError(f"{artifact.name} cannot be stored: {why}") from error


def _run_id(attempt_id: str) -> str:
    return attempt_id.partition(".")[0]


def _safe(name: str) -> str:
    """A file name for any name, another for each: never hidden, never `..`, never too long."""
    quoted = quote(name, safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:100]}%~{hashlib.sha256(name.encode()).hexdigest()}"
    return quoted or "%~"


def _make_durable_folder(folder: Path) -> None:
    if folder.exists():
        return
    _make_durable_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
