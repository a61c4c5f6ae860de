"""A sandbox of each mode that works on this machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.workers.sandbox import Mode, Sandbox, SandboxUnavailable


@pytest.fixture(params=[Mode.BUBBLEWRAP, Mode.SANDLOCK])
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox whose hidden data folder is `tmp_path / "data"`."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "secret").write_text("the worker's own")
    try:
        box = await Sandbox.open(request.param, scratch=data / "scratch", hidden=(data, Path.home()))
    except SandboxUnavailable as reason:
        pytest.skip(str(reason))
    yield box
    assert list(box.scratch.iterdir()) == [], "a private /tmp was left behind"
