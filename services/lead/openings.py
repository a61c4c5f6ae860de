"""A run's branch, from its push until the run is journaled: noted, so that a crash leaves none behind."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from services.lead.integrator import Integrator
from services.lead.journal import Journal, StoreFailed
from services.runtime.git import GitError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opening:
    """The branch of a run that is being made: it stands at the run's base."""

    run_id: str
    repository: str
    base: str


class Openings:
    """Opens the branches of new runs. Its folder holds a note of each whose run may not be journaled."""

    def __init__(self, folder: Path, journal: Journal, integrator_of: Callable[[str], Integrator]) -> None:
        self._folder = folder
        self._journal = journal
        self._integrator_of = integrator_of
        folder.mkdir(parents=True, exist_ok=True)

    def left(self) -> tuple[Opening, ...]:
        """Those that a lead which ended before left."""
        found = []
        for note in sorted(self._folder.glob("*.json")):
            try:
                found.append(Opening(**json.loads(note.read_bytes())))
            except (ValueError, TypeError) as error:  # the machine stopped as it was written
                log.warning("a note of a run's branch cannot be read", note=str(note), why=str(error))
        return tuple(found)

    async def open(self, opening: Opening) -> None:
        """Note it and make the branch. Forget it once the run is journaled, or settle it. Raises GitError."""
        note = self._note(opening)
        made = note.with_suffix(".new")
        made.write_text(json.dumps(asdict(opening)))
        os.replace(made, note)
        await self._integrator_of(opening.repository).open_branch(opening.run_id, opening.base)

    async def settle(self, opening: Opening) -> None:
        """Delete the branch where the journal has no such run, unless somebody moved it.

        What cannot be settled now is logged, and is at the next start.
        """
        try:
            if await self._journal.run(opening.run_id) is None:
                integrator = self._integrator_of(opening.repository)
                await integrator.close_branch(opening.run_id, opening.base)
        except (GitError, StoreFailed) as error:
            log.warning(
                "the branch of a run that was not made may be left", run=opening.run_id, why=str(error)
            )
        else:
            self.forget(opening)

    def forget(self, opening: Opening) -> None:
        """Its run is journaled, or its branch gone."""
        self._note(opening).unlink(missing_ok=True)

    def _note(self, opening: Opening) -> Path:
        return self._folder / f"{opening.run_id}.json"
