"""The journal: what happened, in one order, stored before anybody sees it.

It knows nothing of tasks: records and rows are bytes to it. An append adds records to a run and changes
the rows that say where the run stands, in one transaction. Stores implement `Journal`; one contract suite
runs over each of them.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

FLEET = "fleet"
"""The reserved run of what belongs to no run. It always exists, has no rows and never ends."""

PAGE_RECORDS = 500
"""A read returns at most so many records or rows."""

PAGE_BYTES = 256 * 1024
"""A read returns at most so many bytes of bodies, or one body that is larger."""


@dataclass(frozen=True, slots=True)
class Record:
    """A fact to journal: a serialized event where it is public, a private record where not.

    `kind` is the payload's name. (`attempt_id`, `sequence`) is unique where the sequence is above 0.
    """

    kind: str
    body: bytes
    public: bool = True
    task_id: str = ""
    attempt_id: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A record at its place."""

    revision: int
    run_id: str
    record: Record


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, and how far they reach: no other match is at or below `through`."""

    entries: tuple[Entry, ...]
    through: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are read: those that match every field. An empty field matches all.

    A project's entries are those of its runs and of the fleet. `tasks` are of one run.
    """

    project: str = ""
    runs: frozenset[str] = frozenset()
    tasks: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    public_only: bool = True


class RowKind(enum.Enum):
    """What a row tells of."""

    RUN = "run"
    TASK = "task"
    ATTEMPT = "attempt"


@dataclass(frozen=True, slots=True)
class Row:
    """Where a run, a task or an attempt stands. An append replaces the row of the same run, kind and id.

    `ordinal` orders the rows of a run and kind and never changes. `task_id` is an attempt's task. `final`
    says that the state will not change; a run is over once its run row is final. A run's only run row has
    the run's id.
    """

    kind: RowKind
    id: str
    ordinal: int
    body: bytes
    final: bool = False
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it stands, with the last revision of the append that wrote it."""

    run_id: str
    revision: int
    row: Row


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows, in order; `more` where others follow the last."""

    rows: tuple[StoredRow, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create. `request_id` is unique in its project; `digest` tells payloads apart."""

    run_id: str
    project: str
    request_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class RunHead:
    """A run as the journal sees it: its last revision, its term, whether it is over."""

    run: NewRun
    created: int
    head: int
    term: int
    final: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append's records are; `last` is the run's head now, `term` the run's term."""

    first: int
    last: int
    term: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """The log's identity and ends. Cursors from `oldest` up to `head` can be read on from."""

    log_id: str
    oldest: int
    head: int


class JournalError(Exception):
    """What a journal refuses or cannot do."""


@dataclass(eq=False)
class HeadMoved(JournalError):
    """Others appended first. Fold `since`, decide again, append again at the last of them.

    `since` is one page: where more was appended, the next append is told the rest.
    """

    since: tuple[Entry, ...] = field(repr=False)

    def __str__(self) -> str:
        return f"{len(self.since)} records or more were appended first"


@dataclass(eq=False)
class Fenced(JournalError):
    """The run has another owner: a higher term than the one given."""

    run_id: str
    term: int

    def __str__(self) -> str:
        return f"run {self.run_id} is owned under term {self.term}"


@dataclass(eq=False)
class RunUnknown(JournalError):
    """No run of that id."""

    run_id: str

    def __str__(self) -> str:
        return f"there is no run {self.run_id}"


@dataclass(eq=False)
class RequestIdTaken(JournalError):
    """The project has a run of that request_id: an exact repeat where the digests are equal."""

    run: RunHead

    def __str__(self) -> str:
        return f"request_id {self.run.run.request_id} was used by run {self.run.run.run_id}"


@dataclass(eq=False)
class DuplicateNotice(JournalError):
    """The journal holds that notice already. Nothing of the append was kept."""

    attempt_id: str
    sequence: int

    def __str__(self) -> str:
        return f"notice {self.sequence} of attempt {self.attempt_id} is journaled already"


@dataclass(eq=False)
class RevisionTrimmed(JournalError):
    """What follows that revision was trimmed in part. `oldest` is the first one to read on from."""

    oldest: int

    def __str__(self) -> str:
        return f"the journal begins after revision {self.oldest}"


@dataclass(eq=False)
class RevisionAhead(JournalError):
    """That revision is not written yet; the last one is `head`."""

    head: int

    def __str__(self) -> str:
        return f"the journal ends at revision {self.head}"


class JournalClosed(JournalError):
    """The journal was closed."""


class StoreFailed(JournalError):
    """The store cannot be opened, read or written; the message says what to do. Nothing was half-written."""


class Journal(Protocol):
    """One log of all runs, and the rows that say where they stand.

    Every method that takes revisions, runs or rows may raise StoreFailed, and JournalClosed once the
    journal is closed. Closing refuses new calls at once, then waits for every append handed in before;
    waiting readers and followers get JournalClosed.

    Cancelling the awaiter of `create`, `claim` or `append` withdraws nothing: the records may be journaled
    all the same, and the next append learns it by HeadMoved. Cancelling a read drops it.
    """

    async def create(self, run: NewRun, records: Sequence[Record], rows: Sequence[Row]) -> Appended:
        """Journal a new run's first records and rows, owned by this journal's lead under term 1.

        Raises RequestIdTaken, and DuplicateNotice as `append` does.
        """
        ...

    async def claim(
        self, run_id: str, records: Sequence[Record], rows: Sequence[Row] = (), *, expected_head: int
    ) -> Appended:
        """Take the run over: raise its term by one, and journal the records that say so, with rows.

        Raises RunUnknown and HeadMoved. Who held the run before is Fenced from its next append on.
        """
        ...

    async def append(
        self,
        run_id: str,
        records: Sequence[Record],
        rows: Sequence[Row] = (),
        *,
        expected_head: int,
        term: int | None,
    ) -> Appended:
        """Journal at least one record, and rows, once the run's head and term are what the caller knows.

        `expected_head` is the revision of the run's last record, public or private; for the fleet's first
        it is 0. `term` is None where a request is recorded that any lead may take. Returns once durable,
        before anybody else sees it. Raises RunUnknown, Fenced, HeadMoved and DuplicateNotice; each
        refuses this append alone, and whole. RevisionTrimmed: what moved the head is not kept any more;
        start again from the rows.
        """
        ...

    async def bounds(self) -> Bounds:
        """The log's id and ends."""
        ...

    async def changed(self, after: int) -> None:
        """Return once the log's head is above a revision. Costs the journal nothing meanwhile."""
        ...

    async def entries(self, after: int, which: Filter, limit: int = PAGE_RECORDS) -> Page:
        """The next page of entries after a revision, of at most `limit` entries and PAGE_BYTES.

        A page may be empty though later ones are not: go on from `through` until that is the head.
        Raises RevisionTrimmed and RevisionAhead.
        """
        ...

    async def run_entries(self, run_id: str, after: int = 0, limit: int = PAGE_RECORDS) -> Page:
        """A run's entries after a revision, private ones too, as far as they were not trimmed."""
        ...

    async def run(self, run_id: str) -> RunHead | None:
        """The run of that id."""
        ...

    async def requested(self, project: str, request_id: str) -> RunHead | None:
        """The run that was created in a project under a request_id."""
        ...

    async def open_runs(self, after: int = 0) -> tuple[RunHead, ...]:
        """Runs that are not over, oldest first, created after a revision: at most PAGE_RECORDS."""
        ...

    async def unfinished(self, run_id: str, tasks: frozenset[str] = frozenset()) -> int:
        """How many of a run's named tasks are not final; of none named, whether the run is not: 1 or 0.

        Raises RunUnknown; a task that does not exist counts as unfinished.
        """
        ...

    async def runs(self, project: str = "", before: int | None = None, limit: int = PAGE_RECORDS) -> RowPage:
        """Run rows, newest first, of a project or of all; `before` is the ordinal of the last one seen.

        The ordinal of a run row, as stored, is the revision of the run's first record.
        """
        ...

    async def rows(
        self,
        run_id: str,
        kind: RowKind,
        task_id: str = "",
        after: int | None = None,
        limit: int = PAGE_RECORDS,
    ) -> RowPage:
        """A run's rows of a kind by ordinal; `after` is the ordinal of the last one seen.

        `task_id` leaves that task's attempts, or that task. Raises RunUnknown.
        """
        ...

    async def row(self, run_id: str, kind: RowKind, row_id: str) -> StoredRow | None:
        """One row."""
        ...

    async def attempt(self, attempt_id: str) -> StoredRow | None:
        """The row of an attempt, whatever run it is of."""
        ...

    async def trim(self, through: int) -> tuple[str, ...]:
        """Move the log's beginning: drop all records up to a revision, and runs that ended by then entirely.

        A run that goes on keeps its rows. Returns the runs dropped, so that their artifacts can follow.
        """
        ...
