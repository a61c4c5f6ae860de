"""How a run is shown while it goes on: a live table on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from codeframe.cli.view import RunView, run_state, task_state

COLOURS = {
    "pending": "dim",
    "assigned": "cyan",
    "in progress": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "skipped": "magenta",
}
ROWS = 40
REDRAW_SECONDS = 0.2


class Screen:
    """Shows a run until left; `changed` after each event, `note` for a line of our own."""

    def __init__(self, view: RunView, console: Console, title: str = "") -> None:
        self._view = view
        self._console = console
        self._title = title
        self._live = (
            Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else None
        )
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()

    def changed(self, line: str) -> None:
        """Something changed; `line` tells it where there is no table."""
        if self._live is None:
            if line:
                self._console.print(Text(line), soft_wrap=True)
        elif time.monotonic() - self._drawn > REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._live.update(self._picture(), refresh=True)

    def note(self, line: str) -> None:
        """A line that stays."""
        self._console.print(Text(line, style="bold"), soft_wrap=True)

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("task", "role", "state", "agent", "what"):
            table.add_column(column, no_wrap=column != "what", overflow="ellipsis")
        shown = list(self._view.tasks.values())
        for each in shown[:ROWS]:
            state = task_state(each.task.state)
            colour = COLOURS.get(state, "")
            what = Text(each.what.splitlines()[0] if each.what else "", overflow="ellipsis", no_wrap=True)
            table.add_row(
                each.task.task_id, each.task.role, Text(state, style=colour), each.task.agent_id, what
            )
        rest = len(shown) - ROWS
        lines: list[Table | Text] = [self._heading(), table]
        if rest > 0:
            lines.append(Text(f"… and {rest} more tasks", style="dim"))
        return Group(*lines)

    def _heading(self) -> Text:
        view, counts = self._view, dict.fromkeys(COLOURS, 0)
        for each in view.tasks.values():
            counts[task_state(each.task.state)] = counts.get(task_state(each.task.state), 0) + 1
        told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        tokens = f"{view.tokens_in:,} tokens in, {view.tokens_out:,} out"
        return Text(f"{self._title}run {view.run.run_id} {run_state(view.run.state)}: {told}; {tokens}")
