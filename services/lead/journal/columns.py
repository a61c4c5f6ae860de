"""What the statements' columns say, as the journal's values."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from services.lead.journal import Entry, NewRun, Page, Record, Row, RowKind, RowPage, RunHead, StoredRow


def names(some: Collection[str]) -> str | None:
    """Names as SQLite's json_each takes them; none of them stands for all."""
    return json.dumps(sorted(some)) if some else None


def run_head(columns: Sequence[Any]) -> RunHead:
    """The columns of a run."""
    run_id, project, request_id, digest, created, head, term, final = columns
    return RunHead(NewRun(run_id, project, request_id, digest), created, head, term, bool(final))


def stored_row(columns: Sequence[Any]) -> StoredRow:
    """The columns of a row, after the number of matches."""
    _, run_id, revision, kind, row_id, ordinal, body, final, task_id = columns
    return StoredRow(run_id, revision, Row(RowKind(kind), row_id, ordinal, body, bool(final), task_id))


def row_page(found: Sequence[Sequence[Any]]) -> RowPage:
    """A page of rows: each begins with how many match in all."""
    return RowPage(tuple(stored_row(columns) for columns in found), bool(found) and found[0][0] > len(found))


def page(found: Sequence[Sequence[Any]], to: int, limit: int) -> Page:
    """A page of entries out of those up to `to`: each begins with how many matched, `limit` at most."""
    entries = tuple(
        Entry(revision, run_id, Record(kind, body, bool(public), task_id, attempt_id, sequence))
        for _, revision, run_id, kind, public, task_id, attempt_id, sequence, body in found
    )
    whole = not entries or len(entries) == found[0][0] < limit
    return Page(entries, to if whole else entries[-1].revision)
