"""For every unit test: nothing of ours is called in a thread of a pool."""

from typing import Any

import anyio.to_thread
import pytest


@pytest.fixture(autouse=True)
def no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette hands its pool an endpoint that is no coroutine, an iterator that is not async, and a file:
    our code does not show it.
    """

    async def refuse(what: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"{what} is called in a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
