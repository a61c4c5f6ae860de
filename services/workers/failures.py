"""What goes wrong below an attempt, as the outcome that it makes."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.runtime.git import GitError
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.sandbox import SandboxError
from services.workers.setup import SetupFailed
from services.workers.workspace import TooManyChanges


@contextmanager
def as_outcomes() -> Iterator[None]:
    """Raise AttemptFailed in place of what git, the sandbox and setup raise."""
    try:
        yield
    except SetupFailed as error:
        raise AttemptFailed(Outcome.SETUP_FAILED, str(error)) from error
    except TooManyChanges as error:
        raise AttemptFailed(Outcome.LIMIT_EXCEEDED, str(error)) from error
    except (GitError, SandboxError) as error:
        raise AttemptFailed(Outcome.INTERNAL, str(error)) from error
