"""`codeframe up`: lead, workers and gateway as child processes under one data folder."""

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from codeframe.cli.child import Child, ServerDied, ServerPlan
from codeframe.cli.failure import CommandFailed
from codeframe.cli.folder import FolderHeld, Up, holding, known_ports, remember_ports, tell

KEY = "ANTHROPIC_API_KEY"


@dataclass(frozen=True, slots=True)
class UpSettings:
    """What to start. Flags that are empty are left to the servers' own defaults and variables."""

    folder: Path
    roles: Sequence[str] = ("backend", "frontend", "test")
    sandbox: str = ""
    model: str = ""
    slots: int = 0
    lead_port: int = 0
    gateway_port: int = 0


async def serve_up(settings: UpSettings, say: Callable[[str], None]) -> None:
    """Run the servers until SIGTERM or SIGINT, then stop them together. Raises CommandFailed."""
    check_services()
    stop = asyncio.Event()
    children: list[Child] = []

    def ask() -> None:
        for child in children if stop.is_set() else ():
            child.ask_to_stop()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    try:
        with holding(settings.folder):
            async with _started(settings, children, say) as up:
                say(f"ready: lead {up.lead}, gateway http://{up.gateway}")
                await stop.wait()
                say("stopping: workers push what they have")
    except FolderHeld as held:
        raise CommandFailed(f"{held}; stop it with `codeframe down`, or choose another --data-dir") from None
    except ServerDied as died:
        raise CommandFailed(str(died)) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def check_services() -> None:
    """Raise CommandFailed where the servers are not installed beside the command line."""
    if importlib.util.find_spec("services") is None or importlib.util.find_spec("services.lead") is None:
        raise CommandFailed(
            "the servers are not part of this package: run from a checkout of codeframe after `make setup`, "
            "or point --lead at a fleet that runs elsewhere"
        )


@asynccontextmanager
async def _started(
    settings: UpSettings, children: list[Child], say: Callable[[str], None]
) -> AsyncIterator[Up]:
    """The servers, each ready before the next needs it; kept until left, then stopped in order."""
    known = known_ports(settings.folder)
    ports = known | {
        name: port
        for name, port in (("lead", settings.lead_port), ("gateway", settings.gateway_port))
        if port
    }

    async def start(*plans: ServerPlan) -> list[Child]:
        fresh = [Child(plan, settings.folder, ports.get(plan.name, 0), say) for plan in plans]
        children.extend(fresh)
        async with asyncio.TaskGroup() as group:
            for child in fresh:
                group.create_task(child.start())
        return fresh

    try:
        try:
            workers = await start(*_workers(settings))
            flags = [word for worker in workers for word in ("--worker", worker.address)]
            plain = _environment(with_key=False)
            (lead,) = await start(ServerPlan("lead", "services.lead", flags, plain))
            (gateway,) = await start(ServerPlan("gateway", "gateway", ["--lead", lead.address], plain))
        except* (ServerDied, TimeoutError) as failures:
            first = failures.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise ServerDied(str(first) or "a server did not answer within a minute") from None
        remember_ports(settings.folder, {child.plan.name: child.port for child in children})

        def tell_all() -> Up:
            addresses = {child.plan.name: child.address for child in children}
            pids = {child.plan.name: child.pid for child in children}
            up = Up(os.getpid(), lead.address, gateway.address, addresses, pids)
            tell(settings.folder, up)
            return up

        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(child.keep(tell_all)) for child in children]
            yield tell_all()
            for child in children:
                child.ask_to_stop()
            await _all_stopped(children)
            for task in keeping:
                task.cancel()
    finally:
        for child in children:
            child.ask_to_stop()
        await _all_stopped(children)


async def _all_stopped(children: Sequence[Child]) -> None:
    async with asyncio.TaskGroup() as group:
        for child in children:
            group.create_task(child.stopped())


def _workers(settings: UpSettings) -> list[ServerPlan]:
    flags: list[str] = []
    for flag, value in (("--sandbox", settings.sandbox), ("--model", settings.model)):
        flags += [flag, value] if value else []
    flags += ["--slots", str(settings.slots)] if settings.slots else []
    environment = _environment(with_key=True)
    return [
        ServerPlan(role, "services.workers", ["--role", role, "--name", role, *flags], environment)
        for role in settings.roles
    ]


def _environment(*, with_key: bool) -> Mapping[str, str]:
    """Only workers hold the key. Settings that belong to one server are not another's."""
    own = {"CODEFRAME_PORT", "CODEFRAME_DATA_DIR", "CODEFRAME_READY_FILE", "CODEFRAME_WORKERS"}
    hidden = own if with_key else own | {KEY, "ANTHROPIC_AUTH_TOKEN"}
    return {name: value for name, value in os.environ.items() if name not in hidden}
