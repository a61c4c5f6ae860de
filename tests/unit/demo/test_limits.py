"""The limits that the scripted Claude may be given."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.claude.__main__ import main
from demo.claude.errors import ApiError
from demo.claude.limits import Limits, RateLimit
from tests.unit.demo.serving import HELLO, MODEL, serving

SCRIPT = {"hello.yaml": "{marker: hello, steps: [{say: Hello.}]}"}
BODY = {"model": MODEL, "max_tokens": 99, "messages": HELLO}
PREFIX = "anthropic-ratelimit-requests"


class Time:
    """Seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def limits(time: Time, per_second: float) -> Limits:
    return Limits(time, lambda: datetime(2026, 1, 1, tzinfo=UTC), RateLimit(per_second))


def refused(limited: Limits) -> ApiError:
    with pytest.raises(ApiError) as raised:
        limited.take()
    assert raised.value.status == 429
    return raised.value


def test_so_many_are_served_at_once_and_then_so_many_a_second() -> None:
    time = Time()
    limited = limits(time, 10)
    for left in range(9, -1, -1):
        assert limited.take()[f"{PREFIX}-remaining"] == str(left)
    assert refused(limited).retry_after == 1
    time.now += 0.11
    limited.take()
    refused(limited)
    time.now += 60
    for _ in range(10):
        limited.take()
    headers: Mapping[str, str] = refused(limited).headers
    assert headers[f"{PREFIX}-limit"] == "600"
    assert headers[f"{PREFIX}-reset"] == "2026-01-01T00:00:01Z"


def test_where_less_than_one_a_second_is_served_retry_after_says_when_the_next_is() -> None:
    time = Time()
    limited = limits(time, 0.1)
    limited.take()
    assert refused(limited).retry_after == 10


async def test_a_client_is_told_429_with_its_headers_and_it_is_on_the_bill(tmp_path: Path) -> None:
    async with serving(tmp_path, SCRIPT, rate_limit=0.01) as claude:
        first, second = await claude.post(BODY), await claude.post(BODY)
        states = [request["state"] for request in claude.requests()]
    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers[f"{PREFIX}-remaining"] == second.headers[f"{PREFIX}-remaining"] == "0"
    assert 90 < int(second.headers["retry-after"]) <= 100
    assert second.json()["error"]["type"] == "rate_limit_error"
    assert states == ["finished", "refused"]


async def test_a_conversation_longer_than_the_context_is_a_bad_request(tmp_path: Path) -> None:
    async with serving(tmp_path, SCRIPT, context_tokens=10) as claude:
        answer = await claude.post(BODY)
    assert answer.status_code == 400
    assert "tokens > 10 maximum" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", ["0", "-1", "inf", "many"])
def test_a_rate_limit_is_a_positive_number(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rate-limit", number])
    assert "--rate-limit" in capsys.readouterr().err
