"""python -m services.workers: a worker of one role or several, as a process."""

import asyncio
import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from codeframe.v1 import worker_pb2_grpc
from services.runtime.git import Git
from services.runtime.prices import Prices, prices_option
from services.runtime.process import CannotStart, run_process
from services.runtime.server import Server
from services.runtime.settings import ServerCommand, ServerSettings, server_options
from services.workers.attempt import AttemptPerformer, Means
from services.workers.attempts import Attempts, Capability, Perform
from services.workers.broadcast import Broadcast
from services.workers.clock import SystemClock
from services.workers.halt import Halt
from services.workers.model.gate import Pause
from services.workers.roles.role import ROLE_NAMES, Role, RoleError, load_roles
from services.workers.sandbox import Mode, Sandbox, SandboxUnavailable
from services.workers.servicer import Identity, WorkerServicer
from services.workers.setup import Setup, find_operator_settings, find_toolchain
from services.workers.work import AttemptRequest, TaskResult
from services.workers.workspace import DataFolder, DataFolderError

if TYPE_CHECKING:
    from services.workers.model.claude import ClaudeModel

log = structlog.get_logger()

SERVICES = ("codeframe.v1.WorkerService",)
MODEL = "claude-sonnet-5"
CHOICES = ("auto", *(mode.value for mode in Mode))
NO_KEY = "this worker has no key for the model: set ANTHROPIC_API_KEY and start it again"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told besides what every server is."""

    name: str
    roles: Mapping[str, Role]
    slots: int
    sandbox: str
    setup_network: bool
    model: str
    labels: Mapping[str, str]
    prices: Prices


@click.command(cls=ServerCommand)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE|PATH",
    show_envvar=True,
    envvar="CODEFRAME_ROLES",
    help=f"A role that it serves: {', '.join(ROLE_NAMES)}, or the folder of one of your own; repeat it for "
    "several, which the variable separates by spaces.",
)
@click.option("--name", show_envvar=True, help="Its name, unique in the fleet.  [default: <host>-<roles>]")
@click.option(
    "--slots", default=2, type=click.IntRange(1, 100), show_envvar=True, help="Attempts at the same time."
)
@click.option(
    "--sandbox",
    default="auto",
    type=click.Choice(CHOICES),
    show_envvar=True,
    help="How commands are confined. With none they are not: they can do all that this user can.",
)
@click.option(
    "--setup-network/--no-setup-network",
    default=True,
    show_envvar=True,
    help="Whether setup commands reach the network. Other commands never do.",
)
@click.option(
    "--model", default=MODEL, show_envvar=True, help="The model that is asked where a task names none."
)
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Something to tell of it; repeat it."
)
@prices_option
@server_options(port=50061, data_dir="worker")
def main(
    settings: ServerSettings,
    roles: tuple[str, ...],
    name: str | None,
    slots: int,
    sandbox: str,
    setup_network: bool,
    model: str,
    labels: tuple[str, ...],
    prices: Prices,
) -> None:
    """Does tasks in one role or several: writes code with Claude, and verifies it before it counts.

    Reads ANTHROPIC_API_KEY, and ANTHROPIC_BASE_URL for another server of the Messages API.
    """
    if not roles:
        raise click.UsageError(f"say at least one --role (or CODEFRAME_ROLES): {', '.join(ROLE_NAMES)}")
    try:
        served = load_roles(roles)
    except RoleError as error:
        raise click.UsageError(str(error)) from None
    told = WorkerSettings(
        name=name or f"{socket.gethostname()}-{'-'.join(served)}",
        roles=served,
        slots=slots,
        sandbox=sandbox,
        setup_network=setup_network,
        model=model,
        labels=dict(_label(label) for label in labels),
        prices=prices,
    )
    connect = _connect(os.environ, prices)
    run_process("worker", serve(settings, told, os.environ, connect), settings)


def _label(label: str) -> tuple[str, str]:
    key, equals, value = label.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{label!r} is not KEY=VALUE", param_hint="--label")
    return key, value


def _connect(environ: Mapping[str, str], prices: Prices) -> Callable[[], "ClaudeModel"] | None:
    """What makes the model, or None where there is no key.

    Its library takes a second of the processor to load: only where it is of use, once the settings
    were found to be right, and while there is no event loop that it would hold up.
    """
    key = environ.get("ANTHROPIC_API_KEY", "")
    if not key.strip():
        return None
    from services.workers.model.claude import DEFAULT_BASE_URL, ClaudeModel

    base_url = environ.get("ANTHROPIC_BASE_URL", "") or DEFAULT_BASE_URL
    return partial(ClaudeModel, key, base_url, clock=SystemClock(), chance=random.random, prices=prices)


async def serve(
    settings: ServerSettings,
    worker: WorkerSettings,
    environ: Mapping[str, str],
    connect: Callable[[], "ClaudeModel"] | None,
) -> None:
    """A worker, from its data folder to its server. Raises CannotStart."""
    git = Git(environ)
    data, model = DataFolder(settings.data_dir, git), _model(connect)
    try:
        await data.open()
        sandbox, problem = await _sandbox(worker.sandbox, data)
        capability = Capability(
            roles=tuple(worker.roles),
            slots=worker.slots,
            sandbox_mode=sandbox.mode if sandbox else "",
            sandbox_problem=problem,
            model_problem="" if model else NO_KEY,
            planners=frozenset(name for name, role in worker.roles.items() if role.plans),
        )
        perform = _no_sandbox if sandbox is None else _performer(worker, environ, data, sandbox, model)
        pauses = (lambda: model.pauses) if model else tuple
        await _serve(settings, capability, perform, _identity(worker, model), pauses)
    except DataFolderError as error:
        raise CannotStart(str(error)) from None
    finally:
        data.close()
        if model is not None:
            await model.close()


async def _serve(
    settings: ServerSettings,
    capability: Capability,
    perform: Perform,
    identity: Identity,
    pauses: Callable[[], Sequence[Pause]],
) -> None:
    server = Server(settings, SERVICES)
    async with asyncio.TaskGroup() as group:
        attempts = Attempts(group, perform, capability, SystemClock(), secrets.token_hex(8))
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(
            WorkerServicer(attempts, identity, pauses), server.grpc
        )
        await server.run(attempts.drain)


def _model(connect: Callable[[], "ClaudeModel"] | None) -> "ClaudeModel | None":
    if connect is None:
        log.warning(NO_KEY)
        return None
    try:
        return connect()
    except ValueError as error:
        raise CannotStart(str(error)) from None


async def _sandbox(choice: str, data: DataFolder) -> tuple[Sandbox | None, str]:
    """The sandbox, or why there is none: then the worker starts, and refuses attempts."""
    try:
        sandbox = await Sandbox.open(choice, scratch=data.scratch, hidden=(data.root, Path.home()))
    except SandboxUnavailable as error:
        log.warning(str(error))
        return None, str(error)
    if sandbox.mode is Mode.NONE:
        log.warning("commands are not confined: they can do all that this user can")
    return sandbox, ""


def _performer(
    worker: WorkerSettings,
    environ: Mapping[str, str],
    data: DataFolder,
    sandbox: Sandbox,
    model: "ClaudeModel | None",
) -> Perform:
    operator = find_operator_settings(environ, Path.home())
    means = Means(
        data=data,
        sandbox=sandbox,
        setup=Setup(sandbox, data.environments, find_toolchain(), operator, network=worker.setup_network),
        roles=worker.roles,
        model=model,
        model_name=worker.model,
        model_endpoint=model.endpoint if model else "",
        clock=SystemClock(),
        new_incident=lambda: secrets.token_hex(4),
        prices=worker.prices,
    )
    return AttemptPerformer(means)


async def _no_sandbox(request: AttemptRequest, broadcast: Broadcast, halt: Halt) -> TaskResult:
    raise AssertionError("every attempt is refused where there is no sandbox")


def _identity(worker: WorkerSettings, model: "ClaudeModel | None") -> Identity:
    return Identity(
        name=worker.name,
        version=_version(),
        model=worker.model,
        model_endpoint=model.endpoint if model else "",
        key_fingerprint=model.key_fingerprint if model else "",
        labels=worker.labels,
    )


def _version() -> str:
    try:
        return version("codeframe")
    except PackageNotFoundError:
        return "unknown"  # a checkout that was never installed


if __name__ == "__main__":
    main()
