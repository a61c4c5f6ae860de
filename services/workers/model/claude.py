"""Claude, through one shared client a process: a turn asked as often as that can help."""

import asyncio
import hashlib
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from anthropic import AsyncAnthropic, AsyncStream, DefaultAioHttpClient, Timeout
from anthropic.types import RawMessageStreamEvent

from services.workers.clock import Clock
from services.workers.model.conversation import Conversation, Reply, TurnObserver
from services.workers.model.request import messages_of, system_of, tools_of
from services.workers.model.retry import Patience
from services.workers.model.stream import ReplyStream
from services.workers.model.trouble import EXPECTED, trouble_of

DEFAULT_BASE_URL = "https://api.anthropic.com"
MAX_TOKENS = 32_000
PATIENCE = Patience()


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
    ) -> None:
        """Open no connection yet. `chance` returns numbers from 0 to 1.

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
        timeout = Timeout(patience.stall, connect=patience.connect)
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

    async def turn(self, conversation: Conversation, observer: TurnObserver) -> Reply:
        """Ask for one reply; ask again where that can help. See Model."""
        tries, since = 0, self._clock.monotonic()
        while True:
            tried = _Try(conversation.model)
            try:
                async with asyncio.timeout(self._patience.one_try):
                    return await self._try(conversation, tried)
            except EXPECTED as error:
                trouble = trouble_of(error, tried.request_id, self._clock.now())
            finally:
                if tried.stream is not None:
                    observer.paid(tried.stream.usage, tried.request_id)
            tries += 1
            since = self._clock.monotonic() if tries == 1 else since
            spent = self._clock.monotonic() - since
            wait = self._patience.wait_before_next(trouble, tries, spent, self._chance())
            await observer.wait(wait, trouble.detail)

    async def _try(self, conversation: Conversation, tried: "_Try") -> Reply:
        async with await self._open(conversation) as events:
            stream = tried.begin(events.response.headers.get("request-id", ""))
            async for event in events:
                stream.take(event)
                if stream.ended:
                    break
        return stream.reply()

    async def _open(self, conversation: Conversation) -> AsyncStream[RawMessageStreamEvent]:
        return await self._client.messages.create(
            model=conversation.model,
            max_tokens=self._max_tokens,
            system=system_of(conversation),
            tools=tools_of(conversation),
            messages=messages_of(conversation),
            stream=True,
        )


class _Try:
    """One request; its stream, once the provider has begun to answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.request_id = ""
        self.stream: ReplyStream | None = None

    def begin(self, request_id: str) -> ReplyStream:
        self.request_id = request_id
        self.stream = ReplyStream(self._model, request_id)
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
