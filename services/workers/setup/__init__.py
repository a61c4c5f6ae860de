"""Setup: making a checkout able to run the project's checks.

    setup = Setup(sandbox, data.environments, find_toolchain())
    environment = await setup.prepare(base, verification=checks.verification, command=checks.setup)
    environment = await setup.prepare(base, paths=checks.setup_paths, repository=request.repository)
    result = await sandbox.run(environment.command("python -m pytest", checkout))

`prepare` is given a checkout of the commit whose lock files count: the run's base, or an attempt's own
tree where its task may change dependencies. What it makes is cached by the digest of command and lock
files, made once however many ask, and serves every checkout: read-only, and without anything of the tree
it was made from. Raises `SetupFailed`.
"""

from services.workers.setup.environment import Environment
from services.workers.setup.errors import SetupFailed
from services.workers.setup.operator import OperatorSettings, find_operator_settings
from services.workers.setup.setup import Setup
from services.workers.setup.toolchain import Toolchain, find_toolchain

__all__ = [
    "Environment",
    "OperatorSettings",
    "Setup",
    "SetupFailed",
    "Toolchain",
    "find_operator_settings",
    "find_toolchain",
]
