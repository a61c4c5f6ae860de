"""The journal's SQLite file: the one place that opens it, and its statements by name."""

import re
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import aiosqlite

from services.lead.journal import StoreFailed

SCHEMA = 1
"""The schema version that this code reads and writes."""

_APPLICATION = 0x63666A31  # "cfj1": tells a journal from any other SQLite file


class Database:
    """One connection, on aiosqlite's one thread. Whoever holds it makes one call at a time."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, statements: dict[str, str]) -> None:
        self.path = path
        self._connection = connection
        self._statements = statements

    async def fetch(self, name: str, **values: Any) -> list[Any]:
        """The rows of a statement. Raises sqlite3.Error."""
        return list(await self._connection.execute_fetchall(self._statements[name], values))

    async def many(self, name: str, values: Iterable[tuple[Any, ...]]) -> None:
        """A statement for each tuple of values. Raises sqlite3.Error."""
        await self._connection.executemany(self._statements[name], values)

    async def run(self, name: str, **values: Any) -> None:
        """Run a statement that has no rows. Raises sqlite3.Error."""
        await self._connection.execute_fetchall(self._statements[name], values)

    async def failed(self, error: sqlite3.Error) -> StoreFailed:
        """Undo what is open, and say what went wrong."""
        if self._connection.in_transaction:
            await self.run("rollback")
        return StoreFailed(f"journal {self.path}: {error}; nothing was written")


@asynccontextmanager
async def opened(path: Path, log_id: str) -> AsyncIterator[Database]:
    """Open the file, or make it with that log id; close it at the end.

    Raises StoreFailed where it cannot be opened, is no journal, or is one of another schema version.
    """
    sql = resources.files("services.lead.journal") / "sql"
    database: Database | None = None
    try:
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            database = Database(path, connection, _named(sql.joinpath("queries.sql").read_text()))
            await _prepare(database, connection, sql.joinpath("schema.sql").read_text(), log_id)
            yield database
    except sqlite3.Error as error:
        raise StoreFailed(f"journal {path}: {error}; see that it can be read and written") from error


async def _prepare(database: Database, connection: aiosqlite.Connection, schema: str, log_id: str) -> None:
    """Set the file up for durable commits, and make or check its schema."""
    version = await _pragma(connection, "user_version")
    application = await _pragma(connection, "application_id")
    tables = await connection.execute_fetchall("SELECT 1 FROM sqlite_schema LIMIT 1")
    if not (version or application or list(tables)):
        await connection.execute_fetchall("PRAGMA journal_mode = WAL")
        # Made in one transaction: a file that is there at all is whole.
        await connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA user_version = {SCHEMA};"
            f" PRAGMA application_id = {_APPLICATION}; {schema}"
        )
        await database.run("identify", log_id=log_id)
        await database.run("commit")
    elif application != _APPLICATION:
        raise StoreFailed(f"{database.path} is not a journal of codeframe; give another data folder")
    elif version != SCHEMA:
        raise StoreFailed(
            f"journal {database.path} has schema version {version}, and this lead knows {SCHEMA};"
            " run the codeframe that wrote it, or give another data folder"
        )
    await connection.execute_fetchall("PRAGMA journal_mode = WAL")
    await connection.execute_fetchall("PRAGMA synchronous = FULL")
    await connection.execute_fetchall(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")


async def _pragma(connection: aiosqlite.Connection, name: str) -> int:
    ((value,),) = await connection.execute_fetchall(f"PRAGMA {name}")
    return int(value)


def _named(text: str) -> dict[str, str]:
    """The statements of a file in which each follows a line `-- name: ...`."""
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return {name: statement.strip() for name, statement in zip(parts[1::2], parts[2::2], strict=True)}
