"""python -m services.lead: the lead as a process."""

import asyncio
import os
import secrets
from contextlib import closing

import click

from codeframe.v1 import lead_pb2_grpc
from services.lead.artifacts import ArtifactStore
from services.lead.fleet import Fleet
from services.lead.integrator import Integrators
from services.lead.journal import Journal, StoreFailed
from services.lead.journal.sqlite import sqlite_journal
from services.lead.openings import Openings
from services.lead.reads import Reads
from services.lead.requests import Requests
from services.lead.runs import Runs
from services.lead.servicer import LeadServicer
from services.lead.stage import Stage
from services.lead.watch import add_status_service
from services.runtime.folder_lock import FolderHeld, FolderLock
from services.runtime.git import Git
from services.runtime.prices import Prices, prices_option
from services.runtime.process import CannotStart, run_process
from services.runtime.server import Server
from services.runtime.settings import ServerCommand, ServerSettings, server_options

SERVICES = ("codeframe.v1.LeadService", "codeframe.v1.StatusService")


@click.command(cls=ServerCommand)
@click.option(
    "--worker",
    "workers",
    multiple=True,
    envvar="CODEFRAME_WORKERS",
    show_envvar=True,
    metavar="HOST:PORT",
    help="A worker's address; repeat it. The variable holds several, separated by spaces or commas.",
)
@prices_option
@server_options(port=50051, data_dir="lead")
def main(settings: ServerSettings, workers: tuple[str, ...], prices: Prices) -> None:
    """Runs plans: gives their tasks to workers, merges what they make, and broadcasts every change."""
    addresses = [address for given in workers for address in given.replace(",", " ").split()]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise click.BadParameter(f"{address!r} is not HOST:PORT", param_hint="--worker")
    run_process("lead", serve(settings, addresses, prices), settings)


async def serve(settings: ServerSettings, workers: list[str], prices: Prices) -> None:
    """The lead, from its data folder to its servers. Raises CannotStart."""
    try:
        async with (
            asyncio.TaskGroup() as group,
            sqlite_journal(settings.data_dir, group, new_log_id=lambda: secrets.token_hex(4)) as journal,
        ):
            lock = FolderLock(settings.data_dir / "repositories.lock")
            with closing(lock):
                await lock.take()  # once no git of a killed lead pushes any more
                await _serve(settings, workers, journal, Git(os.environ).holding(lock), prices)
    except* StoreFailed as failures:
        raise CannotStart(str(failures.exceptions[0])) from None
    except* FolderHeld as failures:
        message = f"repositories of {settings.data_dir} are in use ({failures.exceptions[0]})"
        raise CannotStart(f"{message}; end that, or give another folder with --data-dir") from None


async def _serve(
    settings: ServerSettings, workers: list[str], journal: Journal, git: Git, prices: Prices
) -> None:
    artifacts = ArtifactStore(settings.data_dir / "artifacts")
    integrators = Integrators(git, settings.data_dir / "repositories")
    fleet = Fleet(workers, journal)
    stage = Stage(journal, fleet, artifacts, Requests(artifacts), integrators.of)
    openings = Openings(settings.data_dir / "openings", journal, integrators.of)
    runs = Runs(stage, openings, owner=f"lead-{secrets.token_hex(4)}")
    reads = Reads(journal, artifacts)
    server = Server(settings, SERVICES, ages_connections=True)
    servicer = LeadServicer(runs, reads, fleet, integrators.of, prices)
    lead_pb2_grpc.add_LeadServiceServicer_to_server(servicer, server.grpc)
    add_status_service(server.grpc, journal, fleet.workers)
    try:
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(fleet.keep()), group.create_task(runs.keep())]
            await server.run()
            # Attempts belong to their workers: a lead that comes back joins them.
            for each in keeping:
                each.cancel()
    finally:
        await fleet.close()


if __name__ == "__main__":
    main()
