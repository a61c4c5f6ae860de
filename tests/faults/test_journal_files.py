"""Files that are no journal of ours, or cannot be one: a clear refusal, and nothing touched."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from services.lead.journal import StoreFailed
from tests.contract.stores import read_all, run_of, sqlite, told


async def opens(folder: Path) -> str:
    """What opening the journal says: nothing, or why it is refused."""
    try:
        async with sqlite(folder)():
            return ""
    except* StoreFailed as group:
        (error,) = group.exceptions
        refused = str(error)
    return refused


@contextmanager
def no_room(path: Path) -> Iterator[None]:
    """No file of this process grows beyond the size that one has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_another_schema_version_is_refused_by_number(tmp_path: Path) -> None:
    assert await opens(tmp_path) == ""
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    refused = await opens(tmp_path)
    assert "journal.sqlite3 has schema version 7, and this lead knows 1; run the codeframe that" in refused
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    before = path.read_bytes()
    assert "is not a journal of codeframe" in await opens(tmp_path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_text("these are notes\n" * 100)
    assert "file is not a database" in await opens(tmp_path)
    assert path.read_text() == "these are notes\n" * 100


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file/data: Not a directory" in await opens(tmp_path / "file" / "data")


async def test_without_room_appends_are_refused_and_reads_go_on(tmp_path: Path) -> None:
    async with sqlite(tmp_path)() as journal:
        head = (await journal.create(run_of("a"), [told(b"kept")], [])).last
        with no_room(tmp_path / "journal.sqlite3-wal"):
            for _ in range(2):
                with pytest.raises(StoreFailed, match="nothing was written"):
                    await journal.append("a", [told(bytes(64_000))], expected_head=head, term=1)
            assert [entry.record.body for entry in await read_all(journal)] == [b"kept"]
        await journal.append("a", [told(b"after")], expected_head=head, term=1)
    async with sqlite(tmp_path)() as journal:
        assert [entry.record.body for entry in await read_all(journal)] == [b"kept", b"after"]
