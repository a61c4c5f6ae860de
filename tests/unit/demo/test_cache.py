"""Tokens divided by the longest prefix seen before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.claude.cache import LOOKBACK, InputTokens, PromptCache, estimate
from demo.claude.request import MessagesRequest, read_request
from tests.unit.demo.serving import tool


class Time:
    """Seconds, moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(time: Time) -> PromptCache:
    return PromptCache(time)


def block(text: str, ttl: str | None = None) -> dict[str, object]:
    return {"type": "text", "text": text} | (
        {"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}
    )


def asked(*texts: dict[str, object], **others: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": list(texts)}]}
    return read_request(json.dumps(body | others).encode())


def total(tokens: InputTokens) -> int:
    return tokens.fresh + tokens.read + tokens.written


def test_a_token_is_four_bytes() -> None:
    assert [estimate(text) for text in ("", "a", "abcd", "abcde", "世界")] == [0, 1, 1, 2, 2]


def test_without_a_breakpoint_all_is_fresh(cache: PromptCache) -> None:
    for _ in range(2):
        tokens = cache.count(asked(block("a" * 100)))
        assert (tokens.read, tokens.written) == (0, 0)
        assert tokens.fresh > 25


def test_what_one_request_writes_the_next_reads(cache: PromptCache) -> None:
    first = cache.count(asked(block("a" * 100, "5m"), block("b" * 40)))
    assert (first.read, first.written_1h) == (0, 0)
    second = cache.count(asked(block("a" * 100, "5m"), block("c" * 40)))
    assert (second.read, second.written, second.fresh) == (first.written_5m, 0, first.fresh)


def test_a_conversation_that_grows_reads_all_it_wrote(cache: PromptCache) -> None:
    tools, system = [tool("grep")], [block("s" * 80, "5m")]
    first = cache.count(asked(block("a" * 100, "5m"), tools=tools, system=system))
    grown = [
        {"role": "user", "content": [block("a" * 100)]},
        {"role": "assistant", "content": [block("b" * 60)]},
        {"role": "user", "content": [block("c" * 20, "5m")]},
    ]
    second = cache.count(asked(tools=tools, system=system, messages=grown))
    assert second.read == first.written
    assert second.written > 0
    assert second.fresh == 0


@pytest.mark.parametrize(
    "change",
    [
        {"system": [block("another", "5m")]},
        {"tools": [tool("sed")]},
        {"model": "another"},
    ],
)
def test_a_change_before_the_breakpoint_loses_it(cache: PromptCache, change: Any) -> None:
    before = {"system": [block("s" * 80, "5m")], "tools": [tool("grep")]}
    cache.count(asked(block("a", "5m"), **before))
    assert cache.count(asked(block("a", "5m"), **(before | change))).read == 0


def test_a_change_of_tool_choice_keeps_tools_and_system(cache: PromptCache) -> None:
    before: Any = {"system": [block("s" * 80, "5m")], "tools": [tool("grep")]}
    first = cache.count(asked(block("a" * 80, "5m"), **before))
    again = cache.count(asked(block("a" * 80, "5m"), **before, tool_choice={"type": "any"}))
    assert 0 < again.read < first.written
    assert again.read + again.written == first.written


def test_entries_expire_and_are_renewed_by_use(cache: PromptCache, time: Time) -> None:
    request = asked(block("a" * 100, "5m"))
    cache.count(request)
    for _ in range(3):
        time.now += 299
        assert cache.count(request).read > 0
    time.now += 301
    assert cache.count(request).read == 0


def test_an_hour_is_counted_as_such(cache: PromptCache, time: Time) -> None:
    request = asked(block("a" * 100, "1h"), block("b" * 100, "5m"))
    first = cache.count(request)
    assert first.written_1h > 0
    assert first.written_5m > 0
    time.now += 3599
    assert cache.count(request).read == first.written_1h


def test_a_breakpoint_looks_back_so_far_and_no_further(cache: PromptCache) -> None:
    written = cache.count(asked(block("a" * 100, "5m"))).written
    near = [block(str(at)) for at in range(LOOKBACK - 1)]
    assert cache.count(asked(block("a" * 100), *near, block("end", "5m"))).read == written
    far = [block(str(at)) for at in range(100, 100 + LOOKBACK)]
    assert cache.count(asked(block("a" * 100), *far, block("end", "5m"))).read == 0


def test_the_top_level_breakpoint_is_the_last_block(cache: PromptCache) -> None:
    request = asked(block("a" * 100), block("b"), cache_control={"type": "ephemeral"})
    assert cache.count(request).fresh == 0
    assert cache.count(request).written == 0


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.sampled_from([None, "5m", "1h"])), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_sum_is_the_same_however_it_is_divided(requests: list[list[tuple[str, str | None]]]) -> None:
    cache = PromptCache(Time())
    seen: set[str] = set()
    for spoken in requests:
        plain = PromptCache(Time()).count(asked(*(block(text) for text, _ in spoken)))
        tokens = cache.count(asked(*(block(text, ttl) for text, ttl in spoken)))
        assert total(tokens) == plain.fresh
        assert min(tokens.fresh, tokens.read, tokens.written_5m, tokens.written_1h) >= 0
        prefixes = ["".join(text for text, _ in spoken[: end + 1]) for end in range(len(spoken))]
        points = [end for end, (_, ttl) in enumerate(spoken) if ttl]
        held = [end for end in range(max(points, default=-1) + 1) if prefixes[end] in seen]
        read_blocks = held[-1] + 1 if held else 0
        each = total(tokens) // len(spoken)
        assert tokens.read == read_blocks * each
        assert tokens.written == max(0, max(points, default=-1) + 1 - read_blocks) * each
        seen.update(prefixes[end] for end in points)
