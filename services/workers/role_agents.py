"""The agents by the names of their roles."""

from typing import ClassVar

from services.workers.agent import WorkerAgent
from services.workers.broadcast import Broadcast
from services.workers.clock import Clock
from services.workers.desk import Desk
from services.workers.model.conversation import Model
from services.workers.roles.role import load_role
from services.workers.work import Limits


class _RoleAgent(WorkerAgent):
    """A WorkerAgent whose role is named by its class."""

    role_name: ClassVar[str]

    def __init__(
        self, model: Model, desk: Desk, broadcast: Broadcast, *, model_name: str, limits: Limits, clock: Clock
    ) -> None:
        role = load_role(self.role_name)
        super().__init__(role, model, desk, broadcast, model_name=model_name, limits=limits, clock=clock)


class BackendWorkerAgent(_RoleAgent):
    """The backend role's agent."""

    role_name = "backend"


class FrontendWorkerAgent(_RoleAgent):
    """The frontend role's agent."""

    role_name = "frontend"


class TestWorkerAgent(_RoleAgent):
    """The test role's agent."""

    __test__ = False  # not a test, whatever its name
    role_name = "test"
