"""How long a worker may be silent before an attempt is given up with it."""

import asyncio
from dataclasses import dataclass

from codeframe.errors import CodeframeError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may be silent, and how often it is asked; all in seconds."""

    silence: float = 30.0
    deadline: float = 300.0
    shortest_pause: float = 0.1
    longest_pause: float = 2.0
    stall: float = 900.0

    def pause(self, failures: int) -> float:
        """Before asking again after so many failures in a row."""
        return min(self.shortest_pause * 2.0 ** min(failures, 20), self.longest_pause)


class Lost(Exception):
    """The attempt is given up with its worker, which was started anew (`is_dead`), or may live on."""

    def __init__(self, message: str, *, is_dead: bool = False) -> None:
        super().__init__(message)
        self.is_dead = is_dead


class Silence:
    """Since when the worker at an address has not been heard."""

    def __init__(self, address: str, patience: Patience) -> None:
        self._address = address
        self.patience = patience
        self.broken()

    def broken(self) -> None:
        """It was heard just now."""
        self._heard = self.now()

    def now(self) -> float:
        """The instant that calls are noted with, in seconds of the loop's clock."""
        return asyncio.get_running_loop().time()

    async def wait(self, error: CodeframeError, asked: float, failures: int) -> None:
        """Wait before a call that failed is made again.

        Raises Lost where the worker was started anew, or was silent for so long before it was
        `asked` that this was the one more try.
        """
        if error.reason == "ERROR_REASON_WORKER_RESTARTED":
            raise Lost(error.message, is_dead=True)
        if error.reason:
            self.broken()
        elif asked - self._heard > self.patience.silence:
            raise Lost(f"{self._address} was silent for {self.patience.silence:g} s: {error.message}")
        await asyncio.sleep(self.patience.pause(failures))
