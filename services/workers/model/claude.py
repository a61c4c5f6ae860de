"""Claude, through one shared client a process: a turn asked as often as that can help."""

import asyncio
import hashlib
import ipaddress
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import httpx2
from anthropic import (
    APIStatusError,
    AsyncAnthropic,
    AsyncStream,
    DefaultAioHttpClient,
    RequestOptions,
    Timeout,
)

from codeframe.model_family import model_family
from services.runtime.prices import Prices, Tokens, our_prices
from services.workers.clock import Clock
from services.workers.model.conversation import Conversation, ConversationTooLong, Reply, TurnObserver
from services.workers.model.events import ErrorEvent, EventDecoder
from services.workers.model.gate import Gate, Pause, Ticket
from services.workers.model.request import body_of
from services.workers.model.retry import Patience
from services.workers.model.stream import BadReply, ReplyStream
from services.workers.model.trouble import EXPECTED, is_too_long, trouble_of
from services.workers.outcome import AttemptFailed, Outcome
from services.workers.tools.clip import line
from services.workers.work import ModelUsage

DEFAULT_BASE_URL = "https://api.anthropic.com"
MAX_TOKENS = 32_000
MESSAGES = "/v1/messages"
PATIENCE = Patience()
REQUEST_ID = "request-id"
SCRIPTED = "x-scripted-model"
"""A header of the replies of a scripted stand-in, as `demo.claude` sends it; a model sends none."""


class ClaudeModel:
    """A Model that asks any server of the Messages API. Made once a process; `close` it at its end."""

    def __init__(
        self,
        key: str,
        base_url: str,
        *,
        clock: Clock,
        chance: Callable[[], float],
        patience: Patience = PATIENCE,
        max_tokens: int = MAX_TOKENS,
        prices: Prices | None = None,
    ) -> None:
        """Open no connection yet. `chance` returns numbers from 0 to 1; `prices` are ours unless given.

        Raises ValueError where there is no key, or the URL is none.
        """
        if not key.strip():
            raise ValueError("no key for the model: set ANTHROPIC_API_KEY")
        self.endpoint = _without_credentials(base_url)
        self.key_fingerprint = hashlib.sha256(key.encode()).hexdigest()[:12]
        self._clock = clock
        self._chance = chance
        self._patience = patience
        self._max_tokens = max_tokens
        self._gates: dict[str, Gate] = {}
        self._prices = prices or our_prices()
        # Whole, or the client would join it anew for each request.
        self._url = f"{base_url.rstrip('/')}{MESSAGES}"
        timeout = Timeout(patience.stall, connect=patience.connect)
        # All of them: for each that is left out, the client makes a deep copy of its default, each time.
        self._options = RequestOptions(headers={}, max_retries=0, timeout=timeout)
        self._client = AsyncAnthropic(
            api_key=key,
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            # A proxy of the environment would take requests to this machine, too.
            http_client=DefaultAioHttpClient(
                timeout=timeout, trust_env=not _is_loopback(base_url), follow_redirects=False
            ),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    @property
    def pauses(self) -> tuple[Pause, ...]:
        """What the provider has paused now."""
        now = self._clock.monotonic()
        return tuple(
            Pause(
                self.key_fingerprint,
                family,
                self._clock.now() + timedelta(seconds=gate.paused_until - now),
                line(gate.why),
            )
            for family, gate in self._gates.items()
            if gate.paused_until > now
        )

    async def turn(self, conversation: Conversation, observer: TurnObserver) -> Reply:
        """Ask for one reply; ask again where that can help. See Model."""
        waiting = _Waiting(self._patience, self._clock, observer)
        gate = self._gates.setdefault(model_family(conversation.model), Gate())
        bad_replies = 0
        while True:
            ticket = await self._pass(gate, waiting)
            observer.begin_try()
            tried = _Try(conversation.model)
            try:
                async with asyncio.timeout(self._patience.one_try):
                    return await self._try(conversation, tried, gate)
            except BadReply as error:
                bad_replies += 1
                if bad_replies > self._patience.bad_replies:
                    raise AttemptFailed(Outcome.BAD_MODEL_REPLY, str(error)) from None
                continue
            except EXPECTED as error:
                trouble = trouble_of(error, tried.request_id, self._clock.now())
                if is_too_long(error):
                    raise ConversationTooLong(trouble.detail) from None
            finally:
                if tried.stream is not None:
                    observer.paid(self._priced(tried.stream.usage), tried.request_id)
            if trouble.outcome is not None:
                raise AttemptFailed(trouble.outcome, trouble.detail)
            waiting.tries += 1
            if trouble.shared:
                now, chance = self._clock.monotonic(), self._chance()
                gate.refused(ticket, now, trouble.retry_after, chance, trouble.detail)
            else:
                backoff = self._patience.backoff(waiting.tries, self._chance())
                await waiting.wait(backoff, trouble.detail)

    async def _pass(self, gate: Gate, waiting: "_Waiting") -> Ticket:
        """Wait for a turn at the gate, and for another where it was paused meanwhile."""
        while True:
            ticket = gate.ask(self._clock.monotonic())
            await waiting.wait(ticket.at - self._clock.monotonic(), gate.why)
            if gate.holds(ticket):
                return ticket

    def _priced(self, usage: ModelUsage) -> ModelUsage:
        """What one call took, with its cost."""
        tokens = Tokens(
            usage.input_tokens, usage.output_tokens, usage.cache_write_tokens, usage.cache_read_tokens
        )
        cost = self._prices.cost(usage.model, tokens)
        return replace(usage, cost_micros=cost or 0, cost_known=cost is not None)

    async def _try(self, conversation: Conversation, tried: "_Try", gate: Gate) -> Reply:
        async with aclosing(await self._open(conversation)) as response:
            gate.served(self._clock.monotonic())
            stream = tried.begin(response.headers)
            try:
                await _read(response, stream)
            except ErrorEvent as error:
                raise APIStatusError(str(error), response=response, body=error.body) from None
        return stream.reply()

    async def _open(self, conversation: Conversation) -> httpx2.Response:
        """The response, whose body is still to come.

        The client's typed methods walk the whole conversation for every request and build a model of every
        event, which takes twice the time of all the rest. So they get JSON, and give bytes.
        """
        response = await self._client.post(
            self._url,
            cast_to=httpx2.Response,
            content=body_of(conversation, self._max_tokens),
            stream=True,
            stream_cls=AsyncStream[object],
            options=self._options,
        )
        return cast("httpx2.Response", response)  # as `cast_to` asks for


async def _read(response: httpx2.Response, stream: ReplyStream) -> None:
    """Read a stream as far as its last event."""
    decoder = EventDecoder()
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            for event in decoder.feed(piece):
                stream.take(event)
                if stream.ended:
                    return


class _Waiting:
    """One turn's waiting for the provider, from its first wait on."""

    def __init__(self, patience: Patience, clock: Clock, observer: TurnObserver) -> None:
        self._patience = patience
        self._clock = clock
        self._observer = observer
        self._since: float | None = None
        self.tries = 0

    async def wait(self, seconds: float, why: str) -> None:
        """Wait. Raises AttemptFailed (PROVIDER_UNAVAILABLE) at once where that would be too long."""
        if seconds <= 0:
            return
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        self._patience.check(seconds, now - self._since, self.tries, why)
        await self._observer.wait(seconds, why)


class _Try:
    """One request; its stream, once the provider has begun to answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.request_id = ""
        self.stream: ReplyStream | None = None

    def begin(self, headers: Mapping[str, str]) -> ReplyStream:
        self.request_id = headers.get(REQUEST_ID, "")
        self.stream = ReplyStream(self._model, self.request_id, scripted=SCRIPTED in headers)
        return self.stream


def _without_credentials(base_url: str) -> str:
    url = urlsplit(base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"ANTHROPIC_BASE_URL: {url.scheme}://{url.hostname or ''} is no http or https URL")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return urlunsplit((url.scheme, f"{host}:{url.port}" if url.port else host, url.path, "", ""))


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
