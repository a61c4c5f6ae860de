"""What every conductor of a lead works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.lead.artifacts import ArtifactStore
from services.lead.fleet import Fleet
from services.lead.integrator import Integrator
from services.lead.journal import Journal
from services.lead.requests import Requests
from services.lead.silence import Patience


@dataclass(frozen=True, slots=True)
class Stage:
    """The parts of a lead that its runs share, and its clock."""

    journal: Journal
    fleet: Fleet
    artifacts: ArtifactStore
    requests: Requests
    integrator_of: Callable[[str], Integrator]
    patience: Patience = field(default_factory=Patience)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
