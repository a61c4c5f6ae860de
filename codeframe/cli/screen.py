"""How a run is shown while it goes on: a live table on a terminal, plain lines elsewhere."""

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from codeframe.cli.names import task_state
from codeframe.cli.view import UNCONFINED, RunView, TaskView, unserved
from codeframe.v1 import state_pb2

COLOURS = {
    "pending": "dim",
    "assigned": "cyan",
    "in progress": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "skipped": "magenta",
}
UNVERIFIED = "yellow"  # never green, though completed
REDRAW_SECONDS = 0.2
# Where not all tasks fit, those that are worked on come first, then what failed, what waits, what is done.
_INTEREST = {
    state_pb2.TASK_STATE_IN_PROGRESS: 0,
    state_pb2.TASK_STATE_ASSIGNED: 0,
    state_pb2.TASK_STATE_FAILED: 1,
    state_pb2.TASK_STATE_PENDING: 2,
}


class Screen:
    """Shows a run until left; `changed` after each item, `note` for a line of our own."""

    def __init__(self, view: RunView, console: Console) -> None:
        self._view = view
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._stale = True

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self.picture(), refresh=True)
            self._live.stop()

    def changed(self, line: str) -> None:
        """Something changed; `line` tells it where there is no table."""
        self._stale = True
        if line and self._live is None:
            self._console.print(Text(line), soft_wrap=True)

    def note(self, line: str, style: str = "bold") -> None:
        """A line that stays."""
        self._console.print(Text(line, style=style), soft_wrap=True)

    async def keep_fresh(self) -> None:
        """Redraw what changed, a few times a second, until cancelled."""
        while True:
            if self._live and self._stale:
                self._stale = False
                self._live.update(self.picture(), refresh=True)
            await asyncio.sleep(REDRAW_SECONDS)

    def picture(self) -> Group:
        """The run as a heading and a table, as high as the terminal."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
        for column in ("task", "role", "state", "agent"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        table.add_column("what", no_wrap=True, overflow="ellipsis", ratio=1)  # the one that gives way
        rows = max(5, self._console.height - 6)
        shown = _most_interesting(list(self._view.tasks.values()), rows)
        for each in shown:
            task, state = each.task, task_state(each.task.state)
            colour = UNVERIFIED if task.unverified and state == "completed" else COLOURS.get(state, "")
            coloured = Text(state, style=colour)
            table.add_row(task.task_id, task.role, coloured, task.agent_id, Text(each.what))
        rest = len(self._view.tasks) - len(shown)
        more = [Text(f"… and {rest} more tasks", style="dim")] if rest else []
        return Group(*self._heading(), table, *more)

    def _heading(self) -> list[Text]:
        view = self._view
        lines = [Text(view.summary())]
        if view.unconfined:
            lines.append(Text(UNCONFINED, style="bold yellow"))
        if view.planning:
            lines.append(Text(f"planning: {view.planning}", style="cyan", no_wrap=True, overflow="ellipsis"))
        lines += [Text(told, style="yellow") for told in view.paused(datetime.now(UTC))]
        if roles := view.unserved_roles():
            lines.append(Text(unserved(roles, view.run.unserved_reason), style="yellow"))
        return lines


def _most_interesting(tasks: list[TaskView], rows: int) -> list[TaskView]:
    """All tasks where they fit, else the most interesting; always in plan order."""
    if len(tasks) <= rows:
        return tasks
    order = sorted(range(len(tasks)), key=lambda at: _INTEREST.get(tasks[at].task.state, 3))
    return [tasks[at] for at in sorted(order[:rows])]
