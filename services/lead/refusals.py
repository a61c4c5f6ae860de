"""What the journal refuses, as the API tells it: one table, for every servicer of the lead."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.lead.journal import JournalClosed, RevisionAhead, RevisionTrimmed, RunUnknown
from services.runtime.errors import NotFound, OutOfRange, Unavailable


@contextmanager
def refusing() -> Iterator[None]:
    """Raise a ServiceError where the journal refuses; a fault of its own passes as it is."""
    try:
        yield
    except RunUnknown as error:
        raise NotFound("RUN_NOT_FOUND", str(error)) from error
    except RevisionTrimmed as error:
        message = f"the journal's oldest event comes after revision {error.oldest}; take a snapshot"
        oldest = {"oldest_revision": str(error.oldest)}
        raise OutOfRange("CURSOR_EXPIRED", message, metadata=oldest) from error
    except RevisionAhead as error:
        message = f"the journal's newest event has revision {error.head}; take a snapshot"
        raise OutOfRange("CURSOR_AHEAD", message) from error
    except JournalClosed as error:
        raise Unavailable("UNAVAILABLE", "this lead is stopping; ask again") from error
