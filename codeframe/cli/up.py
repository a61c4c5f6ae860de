"""`codeframe up`: lead, workers and gateway as child processes under one data folder."""

import asyncio
import importlib.util
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codeframe.cli.child import Child, ServerDied, ServerPlan
from codeframe.cli.failure import CommandFailed
from codeframe.cli.folder import FolderHeld, Up, holding, known_ports, remember_ports, tell
from codeframe.cli.key import custom_endpoint, without_key, worker_environment

STAY = b"stay\n"
"""Written to an `up` of `run`: it is to outlive it."""

# Taken where they are free: an address that people know is worth more than any other.
USUAL_PORTS = {
    "lead": 50051,
    "gateway": 8080,
    "backend": 50061,
    "frontend": 50062,
    "test": 50063,
    "planner": 50064,
}
# Settings of one server that are not another's.
_OWN = {
    f"CODEFRAME_{name}" for name in ("PORT", "DATA_DIR", "READY_FILE", "WORKERS", "ROLES", "NAME", "LEAD")
}


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What to start. What is empty is left to the servers' own defaults and variables.

    `own_roles` are folders, each named as its role; one that is called as one of `roles` takes its place.
    """

    folder: Path
    roles: Sequence[str] = ("backend", "frontend", "test", "planner")
    own_roles: Sequence[Path] = ()
    sandbox: str = ""
    model: str = ""
    slots: int = 0
    lead_port: int = 0
    gateway_port: int = 0
    exit_with_parent: bool = False


async def serve_up(settings: UpSettings, say: Callable[[str], None]) -> None:
    """Run the servers until SIGTERM or SIGINT, then stop them. Raises CommandFailed."""
    check_services()
    fleet = Fleet(settings, say)
    try:
        with _stopping(fleet, settings.exit_with_parent):
            async with holding(settings.folder):
                await fleet.run()
    except FolderHeld as held:
        raise CommandFailed(f"{held}; stop it with `codeframe down`, or choose another --data-dir") from None


def check_services() -> None:
    """Raise CommandFailed where the servers are not installed beside the command line."""
    if importlib.util.find_spec("services") is None or importlib.util.find_spec("services.lead") is None:
        raise CommandFailed(
            "the servers are not part of this package: run from a checkout of codeframe after `make setup`, "
            "or point --lead at a fleet that runs elsewhere"
        )


class Fleet:
    """The servers of one `up`."""

    def __init__(self, settings: UpSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._stop = asyncio.Event()
        self._children: list[Child] = []
        self._ports = known_ports(settings.folder)

    def ask_to_stop(self) -> None:
        """Stop; asked again, hasten."""
        if self._stop.is_set():
            for child in self._children:
                child.ask_to_stop()
        self._stop.set()

    async def run(self) -> None:
        """Start the servers, keep them, and stop them once asked to. Raises CommandFailed."""
        try:
            if await self._started():
                async with asyncio.TaskGroup() as group:
                    for child in self._children:
                        group.create_task(child.keep(self._tell))
                    self._welcome(self._tell())
                    await self._stop.wait()
                    self._say("stopping: workers push what they have; again to hasten")
                    self._tell()
                    await self._stop_all()
        except* ServerDied as died:
            raise CommandFailed("\n".join(_messages(died))) from None
        finally:
            await self._stop_all()

    async def _started(self) -> bool:
        """Start the servers; whether they all answer, or we were asked to stop meanwhile."""
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(self._start_all())
            stopping = group.create_task(self._stop.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            starting.cancel()
            stopping.cancel()
        remember_ports(self._settings.folder, {child.plan.name: child.port for child in self._children})
        return not starting.cancelled()

    def _welcome(self, up: Up) -> None:
        self._say(f"ready: lead {up.lead}, gateway http://{up.gateway}")
        if (self._settings.sandbox or os.environ.get("CODEFRAME_SANDBOX")) == "none":
            self._say("SANDBOX NONE: commands of projects are not confined")
        if endpoint := custom_endpoint(os.environ):
            self._say(f"the model is asked at {endpoint}, not at Anthropic")

    async def _start_all(self) -> None:
        """Each is ready before the next needs its address."""
        workers = await self._start(*self._workers())
        addresses = [word for worker in workers for word in ("--worker", worker.address)]
        (lead,) = await self._start(ServerPlan("lead", "services.lead", addresses, self._environment()))
        to_lead = ["--lead", lead.address]
        await self._start(ServerPlan("gateway", "gateway", to_lead, self._environment()))

    async def _start(self, *plans: ServerPlan) -> list[Child]:
        fresh = [Child(plan, self._settings.folder, self._port(plan.name), self._say) for plan in plans]
        self._children += fresh
        async with asyncio.TaskGroup() as group:
            for child in fresh:
                group.create_task(self._start_one(child))
        return fresh

    async def _start_one(self, child: Child) -> None:
        try:
            await child.start()
        except ServerDied:
            if child.port in (0, self._asked_port(child.plan.name)):
                raise
            child.port = 0  # somebody may have taken the port that we wished for
            await child.start()

    async def _stop_all(self) -> None:
        """Workers first: the lead journals what they hand back."""
        lead = [child for child in self._children if child.plan.name == "lead"]
        for children in ([child for child in self._children if child not in lead], lead):
            for child in children:
                child.ask_to_stop()
            async with asyncio.TaskGroup() as group:
                for child in children:
                    group.create_task(child.stopped())

    def _port(self, name: str) -> int:
        """The port that was asked for; else the one it had before, else the usual one, where free."""
        wished = (self._ports.get(name, 0), USUAL_PORTS.get(name, 0))
        return self._asked_port(name) or next((port for port in wished if port and is_free(port)), 0)

    def _asked_port(self, name: str) -> int:
        return {"lead": self._settings.lead_port, "gateway": self._settings.gateway_port}.get(name, 0)

    def _workers(self) -> list[ServerPlan]:
        settings = self._settings
        given = {"--sandbox": settings.sandbox, "--model": settings.model, "--slots": settings.slots or ""}
        flags = [str(word) for flag, value in given.items() if value for word in (flag, value)]
        environment = worker_environment(self._environment(with_key=True))
        roles = {role: role for role in settings.roles}
        roles |= {folder.name: str(folder) for folder in settings.own_roles}
        return [
            ServerPlan(name, "services.workers", ["--role", role, "--name", name, *flags], environment)
            for name, role in roles.items()
        ]

    def _environment(self, *, with_key: bool = False) -> Mapping[str, str]:
        shared = {name: value for name, value in os.environ.items() if name not in _OWN}
        return shared if with_key else without_key(shared)

    def _tell(self) -> Up:
        servers = {child.plan.name: child.address for child in self._children}
        pids = {child.plan.name: child.pid for child in self._children}
        up = Up(os.getpid(), servers["lead"], servers["gateway"], servers, pids, self._stop.is_set())
        tell(self._settings.folder, up)
        return up


def _messages(group: BaseExceptionGroup[ServerDied]) -> Iterator[str]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _messages(each)
        else:
            yield str(each)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def _stopping(fleet: Fleet, with_parent: bool) -> Iterator[None]:
    """Have signals stop the fleet, and the end of standard input too, unless it says to stay."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        said = os.read(0, 4096)
        if STAY in said or not said:
            loop.remove_reader(0)
        if not said:
            fleet.ask_to_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, fleet.ask_to_stop)
    if with_parent:
        loop.add_reader(0, read)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if with_parent:
            loop.remove_reader(0)
