"""Server-sent events, taken apart as their bytes come. Does no I/O."""

import json
from collections.abc import Iterator

from services.workers.model.conversation import Json

MAX_BYTES = 32 * 1024 * 1024


class StreamBroken(Exception):
    """The events of a stream make no whole message; asking again may help."""


class ErrorEvent(Exception):
    """The provider told an error in its stream. `body` is what it said, as JSON where it is any."""

    def __init__(self, body: object) -> None:
        super().__init__(f"{body}")
        self.body = body


class EventDecoder:
    """Takes a stream's bytes in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""  # of a line that has no end yet
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[Json]:
        """The events that are whole with this piece; pings are none.

        Raises ErrorEvent, StreamBroken at a line of over 32 MiB, and ValueError where one is not JSON.
        """
        lines = (self._rest + piece).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if len(self._rest) > MAX_BYTES:
            raise StreamBroken("a line of the stream is over 32 MiB")
        for line in lines:
            field, _, value = line.rstrip(b"\r\n").partition(b":")
            match field:
                case b"data":
                    self._data.append(value)
                case b"event":
                    self._name = value.strip()
                case b"" if not value:  # the empty line that ends an event
                    name, data = self._name, b"\n".join(self._data)
                    self._name, self._data = b"", []
                    if name == b"error":
                        raise ErrorEvent(_said(data))
                    if name and name != b"ping" and data:
                        yield json.loads(data)


def _said(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace").strip()
