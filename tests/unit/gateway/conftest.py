import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from codeframe.client import Client
from gateway.app import make_app
from gateway.server import HttpServer, listen
from gateway.streams import Streams
from services.runtime.process import Stop
from tests.canned_lead import QUICK, CannedLead, serve


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves, on a real port."""

    address: str
    stop: Stop
    stopped: asyncio.Event


@asynccontextmanager
async def serving(lead: str, max_streams: int = 100, drain_seconds: float = 5.0) -> AsyncIterator[Gateway]:
    streams, stop, ready, stopped = Streams(max_streams), Stop(), asyncio.Event(), asyncio.Event()
    listening = listen("127.0.0.1", 0)
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    async with Client(lead, policy=QUICK, timeout=2.0) as client, asyncio.TaskGroup() as group:
        server = HttpServer(make_app(client, streams), listening, ready.set, drain_seconds)

        async def run() -> None:
            await server.run_until(stop, streams)
            stopped.set()

        group.create_task(run())
        await ready.wait()
        yield Gateway(address, stop, stopped)
        stop.ask()
        stop.ask()


@pytest.fixture
def lead() -> CannedLead:
    return CannedLead()


@pytest.fixture
async def gateway(lead: CannedLead) -> AsyncIterator[Gateway]:
    async with serve(lead) as address, serving(address) as gateway:
        yield gateway


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as http:
        yield http
