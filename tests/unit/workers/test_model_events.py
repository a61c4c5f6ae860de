"""Server-sent events, in whatever pieces their bytes come."""

import pytest

from services.workers.model import events
from services.workers.model.events import ErrorEvent, EventDecoder, StreamBroken

TWO = """\
event: a
data: {"n": 1,
data:  "é": 2}

: comment
event: ping
data: {}

event:b
data:{"n":3}

"""
TOLD = [{"n": 1, "é": 2}, {"n": 3}]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_the_same_however_they_are_cut(size: int, end: str) -> None:
    data, decoder = TWO.replace("\n", end).encode(), EventDecoder()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == TOLD


def test_what_has_no_end_or_no_name_or_no_data_is_no_event() -> None:
    assert list(EventDecoder().feed(b'data: {}\n\nevent: a\n\nevent: a\ndata: {"n": 1}\n')) == []


@pytest.mark.parametrize(("data", "body"), [(b'{"type": "error"}', {"type": "error"}), (b"oh no", "oh no")])
def test_an_error_event_is_raised_with_what_it_says(data: bytes, body: object) -> None:
    with pytest.raises(ErrorEvent) as raised:
        list(EventDecoder().feed(b"event: error\ndata: " + data + b"\n\n"))
    assert raised.value.body == body


def test_what_is_not_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        list(EventDecoder().feed(b"event: a\ndata: no\n\n"))


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_BYTES", 100)
    with pytest.raises(StreamBroken, match="a line"):
        list(EventDecoder().feed(b"data: " + b"x" * 100))
