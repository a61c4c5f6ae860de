"""Tokens, counted: an estimate of each block's, and which of them a prompt cache holds.

A block has one token for each four bytes of its canonical JSON (without `cache_control`), rounded up. So a
request always has the same total, however it is divided into read, written and fresh tokens.

The cache works as the provider documents it, but for the minimum length of a prefix, which is none here. The
prefix of a request is its tools, its system prompt and its messages, block by block. A block with
`cache_control` is a breakpoint; `cache_control` at the top makes one of the last block. A breakpoint's prefix
is read where an entry was written at its end or at one of the 20 blocks before it; the longest such entry of
all breakpoints counts. What follows up to the last breakpoint is written, the rest is fresh. Entries are a
model's own, written when a reply begins, live five minutes (or an hour) from their last use, and end with the
process, as a provider's may end without notice.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from demo.claude.request import CacheControl, Prompt, cacheable_blocks

LOOKBACK = 20
MAX_ENTRIES = 10_000
_TTL = {"5m": 300.0, "1h": 3600.0}


def estimate(text: str) -> int:
    """The tokens of a text."""
    return -(-len(text.encode()) // 4)


@dataclass(frozen=True, slots=True)
class InputTokens:
    """How a request's input is divided; the sum is the same however that comes out."""

    fresh: int
    read: int
    written_5m: int
    written_1h: int

    @property
    def written(self) -> int:
        """All that was written."""
        return self.written_5m + self.written_1h


@dataclass(frozen=True, slots=True)
class _Place:
    """The end of a block: what the prefix up to here is, and how many tokens it has."""

    digest: str
    tokens: int
    ttl: str | None


class PromptCache:
    """The prefixes that were written, with the instants at which they expire. `now` is in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._expiry: dict[str, float] = {}

    def count(self, request: Prompt) -> InputTokens:
        """Divide a request's input, and write its breakpoints' prefixes."""
        places = list(_places(request))
        breakpoints = [at for at, place in enumerate(places) if place.ttl is not None]
        hit = max((self._find(places, at) for at in breakpoints), default=-1)
        reached = places[hit].tokens if hit >= 0 else 0
        read = reached
        written = {"5m": 0, "1h": 0}
        for at in breakpoints:
            if at > hit:
                written[str(places[at].ttl)] += places[at].tokens - reached
                reached = places[at].tokens
        self._write(places, hit, breakpoints)
        return InputTokens(places[-1].tokens - reached, read, written["5m"], written["1h"])

    def _find(self, places: Sequence[_Place], at: int) -> int:
        """The last place up to `at`, at most 20 blocks before it, whose prefix is held; -1 where none is."""
        near = range(at, max(at - LOOKBACK, 0) - 1, -1)
        return next((place for place in near if self._held(places[place].digest)), -1)

    def _held(self, digest: str) -> bool:
        return self._expiry.get(digest, 0.0) > self._now()

    def _write(self, places: Sequence[_Place], hit: int, breakpoints: Sequence[int]) -> None:
        if hit >= 0:
            self._renew(places[hit].digest, places[hit].ttl or "5m")
        for at in breakpoints:
            self._renew(places[at].digest, str(places[at].ttl))
        while len(self._expiry) > MAX_ENTRIES:
            del self._expiry[next(iter(self._expiry))]

    def _renew(self, digest: str, ttl: str) -> None:
        until = max(self._expiry.pop(digest, 0.0), self._now() + _TTL[ttl])
        self._expiry[digest] = until


def size(request: Prompt) -> int:
    """All tokens of a request's input."""
    return list(_places(request))[-1].tokens


def _places(request: Prompt) -> Iterator[_Place]:
    blocks = cacheable_blocks(request)
    headings = [
        *("tool" for _ in request.tools),
        *("system" for _ in request.system),
        *(_heading(request, at) for at, message in enumerate(request.messages) for _ in message.content),
    ]
    digest, tokens = request.model, 0
    last = len(blocks) - 1
    for at, (heading, block) in enumerate(zip(headings, blocks, strict=True)):
        said = json.dumps(block.model_dump(exclude={"cache_control"}, exclude_defaults=True), sort_keys=True)
        digest = hashlib.sha256(f"{digest}\n{heading}\n{said}".encode()).hexdigest()
        tokens += estimate(said)
        yield _Place(
            digest, tokens, _ttl(block.cache_control or (request.cache_control if at == last else None))
        )


def _heading(request: Prompt, at: int) -> str:
    """What a block of a message hangs on besides those before it: a change of these starts messages anew."""
    settings = [request.tool_choice, request.thinking]
    dumped = [setting and setting.model_dump() for setting in settings]
    return f"{request.messages[at].role} {json.dumps(dumped, sort_keys=True)}"


def _ttl(control: CacheControl | None) -> str | None:
    return control.ttl if control else None
