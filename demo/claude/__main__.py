"""`python -m demo.claude`: the scripted Claude as a server on the loopback."""

import argparse
import asyncio
import logging
import math
import os
import secrets
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from demo.claude.actor import Actor
from demo.claude.app import make_app
from demo.claude.bill import Bill, BillError
from demo.claude.cache import PromptCache
from demo.claude.catalogue import DEFAULT_MODELS
from demo.claude.limits import Limits, RateLimit
from demo.claude.script import ScriptError, load_scripts

DEFAULT_KEY = "scripted-key"
DEFAULT_SCRIPTS = Path(__file__).parents[1] / "scripts"


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo.claude",
        description="A server that speaks the Messages API and says what its scripts tell it. Not a model.",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, takes a free one"
    )
    parser.add_argument(
        "--script",
        type=Path,
        action="append",
        metavar="PATH",
        help="a script, or a folder of *.yaml scripts; may be repeated (default: demo/scripts)",
    )
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="write the base URL here once it serves"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="keep the bill in this folder (default: in one that goes with the process)",
    )
    parser.add_argument(
        "--api-key", default=DEFAULT_KEY, help="the key that clients must send (default: %(default)s)"
    )
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="a model to answer to; may be repeated"
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiply the waits of slow steps; 0 is none (default: %(default)s)",
    )
    parser.add_argument(
        "--rate-limit",
        type=_positive,
        metavar="REQUESTS",
        help="answer 429 to more requests a second, as many at once (default: no limit)",
    )
    parser.add_argument(
        "--context-tokens",
        type=int,
        metavar="TOKENS",
        help="answer 400 to a longer conversation (default: no limit)",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input, a pipe, is closed"
    )
    return parser.parse_args(given)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


class _Server(uvicorn.Server):
    """A server that says when it serves, and stops with its parent where it is to."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], exit_with_parent: bool) -> None:
        super().__init__(config)
        self._ready = ready
        self._exit_with_parent = exit_with_parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self._exit_with_parent:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._heed_parent)
        if self.started:
            self._ready()

    def _heed_parent(self) -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.should_exit = True


class _ServingError(Exception):
    """It cannot serve. The message says why."""


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _ServingError(f"cannot serve on 127.0.0.1:{port}: {error}") from None
    return listener


def _data_folder(named: Path | None, stack: ExitStack) -> Path:
    """The named folder, made where it is missing; else one that goes with the process."""
    if named is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scripted-claude-")))
    try:
        named.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _ServingError(f"cannot keep a bill there: {error}") from None
    return named


def _check(ready_file: Path | None, exit_with_parent: bool) -> None:
    if ready_file is not None and not ready_file.parent.is_dir():
        raise _ServingError(f"--ready-file: there is no folder {ready_file.parent}")
    if exit_with_parent and not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        raise _ServingError("--exit-with-parent: standard input is no pipe")


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def _now() -> datetime:
    return datetime.now(UTC)


def _quiet_cuts(record: logging.LogRecord) -> bool:
    """Connections that a script cuts are no error of the server."""
    return "without completing response" not in record.getMessage()


def main(given: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, 1 where it cannot serve."""
    options = _arguments(given)
    for stop in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises what it caught once more when it has ended; so this is what ends the process.
        signal.signal(stop, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn.error").addFilter(_quiet_cuts)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    models = tuple(options.model or DEFAULT_MODELS)
    with ExitStack() as stack:
        try:
            _check(options.ready_file, options.exit_with_parent)
            scripts = load_scripts(options.script or [DEFAULT_SCRIPTS])
            bill = stack.enter_context(closing(Bill(_data_folder(options.data_dir, stack), _now)))
            listener = stack.enter_context(closing(_listen(options.port)))
        except (ScriptError, BillError, _ServingError) as error:
            print(f"scripted Claude: {error}", file=sys.stderr)
            return 1
        rate = RateLimit(options.rate_limit) if options.rate_limit else None
        limits = Limits(time.monotonic, _now, rate, options.context_tokens)
        actor = Actor(scripts, models, bill, PromptCache(time.monotonic), limits, _new_id, options.pace)
        app = make_app(actor, bill, models, options.api_key, _new_id)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def ready() -> None:
            if options.ready_file:
                _write(options.ready_file, url + "\n")
            print(url, flush=True)

        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2, ws="none"
        )
        _Server(config, ready, options.exit_with_parent).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
