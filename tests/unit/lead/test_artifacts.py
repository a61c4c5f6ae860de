"""Artifacts are held whole or not at all."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.lead.artifacts import CHUNK, LIMIT, ArtifactDiffers, ArtifactError, ArtifactStore
from services.lead.machine.events import ArtifactHeld


def held(data: bytes, name: str = "log") -> ArtifactHeld:
    return ArtifactHeld(name, "text/plain", len(data), hashlib.sha256(data).hexdigest())


async def chunks(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_what_was_written_is_read_in_bounded_chunks_from_any_offset(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    data = bytes(range(256)) * 5_000
    await store.write(
        "run", "run.1.5.1.1", held(data), chunks(data[:10], data[10:1_000_000], data[1_000_000:])
    )
    assert await store.read_whole("run.1.5.1.1", "log") == data
    for offset in (0, 1, CHUNK, len(data) - 1, len(data), len(data) + 5):
        read = [chunk async for chunk in store.read("run.1.5.1.1", "log", offset)]
        assert b"".join(read) == data[offset:]
        assert all(0 < len(chunk) <= CHUNK for chunk in read)
    assert store.held("run.1.5.1.1", "log")
    assert files(tmp_path) == ["log"]


async def test_an_empty_artifact_is_one(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    await store.write("run", "run.a.1", held(b""), chunks())
    assert await store.read_whole("run.a.1", "log") == b""


async def test_what_is_not_held_is_not_there(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert await store.read_whole("run.a.1", "log") is None
    assert not store.held("run.a.1", "log")
    with pytest.raises(FileNotFoundError):
        await anext(store.read("run.a.1", "log"))
    await store.delete_run("run")


@pytest.mark.parametrize("sent", [b"12345", b"1234567", b"123457", b""])
async def test_other_bytes_than_told_are_not_kept(tmp_path: Path, sent: bytes) -> None:
    store = ArtifactStore(tmp_path)
    with pytest.raises(ArtifactDiffers, match="log has"):
        await store.write("run", "run.a.1", held(b"123456"), chunks(sent))
    assert files(tmp_path) == []
    await store.write("run", "run.a.1", held(b"123456"), chunks(b"123456"))
    assert await store.read_whole("run.a.1", "log") == b"123456"


async def test_what_is_too_large_is_not_asked_for(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    sent = chunks(b"x")
    with pytest.raises(ArtifactError, match=f"has {LIMIT + 1} bytes, over {LIMIT}"):
        await store.write("run", "run.a.1", ArtifactHeld("log", "", LIMIT + 1, ""), sent)
    with pytest.raises(StopAsyncIteration):  # It was closed unread.
        await anext(sent)
    assert files(tmp_path) == []


async def test_one_that_is_held_is_not_read_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    await store.write("run", "run.a.1", held(b"first"), chunks(b"first"))
    await store.write("run", "run.a.1", held(b"first"), chunks(b"never", b"asked"))
    assert await store.read_whole("run.a.1", "log") == b"first"


async def test_a_broken_or_cancelled_copy_leaves_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    reading, closed = asyncio.Event(), asyncio.Event()

    async def breaks() -> AsyncGenerator[bytes, None]:
        yield b"123"
        raise ConnectionError("gone")

    async def stalls() -> AsyncGenerator[bytes, None]:
        try:
            yield b"123"
            reading.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    with pytest.raises(ConnectionError):
        await store.write("run", "run.a.1", held(b"123456"), breaks())
    async with asyncio.TaskGroup() as tasks:
        copy = tasks.create_task(store.write("run", "run.a.1", held(b"123456"), stalls()))
        await reading.wait()
        copy.cancel()
    assert closed.is_set()
    assert files(tmp_path) == []


async def test_any_name_is_a_file_of_its_own_inside_the_folder(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    names = [
        "..",
        ".",
        "../../x",
        "/etc/passwd",
        "a/b",
        "a%2Fb",
        ".hidden",
        "ü" * 100,
        "ü" * 99 + "x",
        "log\0",
    ]
    attempts = ["run.../..", f"run.{'é' * 90}.1", f"run.{'é' * 90}.2"]
    for attempt in attempts:
        for name in names:
            data = f"{attempt} {name}".encode()
            await store.write("run", attempt, held(data, name), chunks(data))
    for attempt in attempts:
        for name in names:
            assert await store.read_whole(attempt, name) == f"{attempt} {name}".encode()
    assert len(files(tmp_path / "artifacts")) == len(names) * len(attempts)
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


async def test_a_run_is_deleted_and_no_other(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for attempt in ("run.a.1", "run.a.2", "run2.a.1"):
        await store.write(attempt.partition(".")[0], attempt, held(b"x"), chunks(b"x"))
    await store.delete_run("run")
    await store.delete_run("run")
    assert not store.held("run.a.1", "log")
    assert store.held("run2.a.1", "log")
    assert [path.name for path in tmp_path.iterdir()] == ["run2"]


async def test_an_attempt_of_another_run_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"attempt other\.a\.1 is not of run run"):
        await ArtifactStore(tmp_path).write("run", "other.a.1", held(b""), chunks())


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ArtifactError, match="see to the lead's data folder"):
        await ArtifactStore(tmp_path).write("run", "run.a.1", held(b""), chunks())
