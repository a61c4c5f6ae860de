"""A scripted Claude within the test's own loop, on a free port, and real clients for it."""

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx2
import uvicorn
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from demo.claude.actor import Actor
from demo.claude.app import make_app
from demo.claude.bill import Bill
from demo.claude.cache import PromptCache
from demo.claude.catalogue import DEFAULT_MODELS
from demo.claude.limits import Limits, RateLimit
from demo.claude.script import load_scripts

KEY = "a-key"
MODEL = "claude-sonnet-5"
VERSION = "2026-10-21"
HELLO = [{"role": "user", "content": "Say hello. [script: hello]"}]


def tool(name: str, *inputs: str) -> dict[str, object]:
    """A strict tool whose inputs are all texts."""
    schema = {
        "type": "object",
        "properties": {one: {"type": "string"} for one in inputs},
        "required": list(inputs),
        "additionalProperties": False,
    }
    return {"name": name, "description": name, "strict": True, "input_schema": schema}


class WatchedBill(Bill):
    """A bill that tells when a reply ended."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        super().__init__(folder, now)
        self.an_end = asyncio.Event()

    def ended(self, request_id: str, state: Literal["finished", "broken"], output_tokens: int) -> None:
        super().ended(request_id, state, output_tokens)
        self.an_end.set()


@dataclass(frozen=True)
class Serving:
    """A server that runs."""

    url: str
    bill: WatchedBill
    client: AsyncAnthropic
    http: httpx2.AsyncClient

    def requests(self) -> list[dict[str, object]]:
        """The requests on the bill."""
        return self.bill.requests()

    async def post(self, body: object) -> httpx2.Response:
        """A request as it is, with a key and a version."""
        headers = {"authorization": f"Bearer {KEY}", "anthropic-version": VERSION}
        return await self.http.post("/v1/messages", json=body, headers=headers)


@asynccontextmanager
async def serving(
    folder: Path,
    scripts: Mapping[str, str],
    pace: float = 1,
    rate_limit: float | None = None,
    context_tokens: int | None = None,
) -> AsyncIterator[Serving]:
    """Serve these scripts (file name -> YAML) until the end of the block."""
    (folder / "scripts").mkdir()
    for name, text in scripts.items():
        (folder / "scripts" / name).write_text(text, encoding="utf-8")
    count = itertools.count(1)

    def new_id(prefix: str) -> str:
        return f"{prefix}{next(count):04}"

    bill = WatchedBill(folder, lambda: datetime.now(UTC))
    cache = PromptCache(time.monotonic)
    rate = RateLimit(rate_limit) if rate_limit else None
    limits = Limits(time.monotonic, lambda: datetime.now(UTC), rate, context_tokens)
    actor = Actor(load_scripts([folder / "scripts"]), DEFAULT_MODELS, bill, cache, limits, new_id, pace)
    app = make_app(actor, bill, DEFAULT_MODELS, KEY, new_id)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    # A proxy of the environment would take requests to this machine, too; TLS takes long to set up.
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]))
        async with (
            httpx2.AsyncClient(base_url=url, trust_env=False, timeout=10, verify=False) as http,
            AsyncAnthropic(
                api_key=KEY,
                base_url=url,
                max_retries=0,
                http_client=DefaultAsyncHttpxClient(trust_env=False, timeout=10, verify=False),
            ) as client,
        ):
            try:
                yield Serving(url, bill, client, http)
            finally:
                server.should_exit = True
    bill.close()
