"""Artifacts that the lead holds: copied from workers before their results are journaled."""

import asyncio
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from services.lead.machine.events import ArtifactHeld

LIMIT = 16 * 1024 * 1024
"""Bytes of an artifact, at most."""

CHUNK = 256 * 1024
"""Bytes that are read or written at once."""


class ArtifactDamaged(Exception):
    """The bytes that came are not those that the worker named."""


class ArtifactStore:
    """Files under one folder: `<run>/<attempt>/<name>`, ids encoded to be safe as names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def write(
        self, run_id: str, attempt_id: str, artifact: ArtifactHeld, chunks: AsyncIterator[bytes]
    ) -> None:
        """Keep an artifact, whole or not at all, durable on return. Repeating it is harmless.

        Raises ArtifactDamaged where size or sha256 are not what `artifact` says.
        """
        path = self._path(run_id, attempt_id, artifact.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{uuid.uuid4().hex}")
        digest, size = hashlib.sha256(), 0
        try:
            with scratch.open("wb") as file:
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    if size > min(LIMIT, artifact.size):
                        break
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if size != artifact.size or digest.hexdigest() != artifact.sha256:
                raise ArtifactDamaged(f"{artifact.name} of {attempt_id}: not the bytes that were named")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    async def read(self, run_id: str, attempt_id: str, name: str, offset: int = 0) -> AsyncIterator[bytes]:
        """An artifact's bytes from an offset, in chunks. Raises FileNotFoundError."""
        with self._path(run_id, attempt_id, name).open("rb") as file:
            file.seek(offset)
            while chunk := file.read(CHUNK):
                yield chunk
                await asyncio.sleep(0)

    async def read_whole(self, run_id: str, attempt_id: str, name: str) -> bytes | None:
        """All of an artifact; None where it is not held."""
        try:
            return b"".join([chunk async for chunk in self.read(run_id, attempt_id, name)])
        except FileNotFoundError:
            return None

    def forget(self, run_id: str) -> None:
        """Delete what is held of a run."""
        shutil.rmtree(self._folder / _safe(run_id), ignore_errors=True)

    def _path(self, run_id: str, attempt_id: str, name: str) -> Path:
        return self._folder / _safe(run_id) / _safe(attempt_id) / _safe(name)


def _safe(name: str) -> str:
    """A name that is one part of a path, whatever it was."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"%{ord(match[0]):02X}", name)
