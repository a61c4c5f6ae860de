"""What a run took, by task, attempt and model, as `show` prints it: what a provider's bill is held to."""

from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from codeframe.amounts import read_budget, read_charge
from codeframe.budget import dollars
from codeframe.v1 import budget_pb2, evidence_pb2, lead_pb2

_COLUMNS = ("task", "attempt", "model", "turns", "in", "from cache", "to cache", "out", "cost")
_WORDS = frozenset({0, 2, 8})  # columns of words; the others are numbers


def account(
    attempts: Sequence[lead_pb2.Attempt], totals: Iterable[evidence_pb2.ModelUsage]
) -> Iterator[Text]:
    """A line for each model of each attempt, for what is estimated of one, and for each model in all.

    `totals` are the run's own: they hold what the attempts' do.
    """
    rows: list[tuple[str, ...]] = []
    for attempt in attempts:
        names = (attempt.task_id or "planning", str(attempt.number))
        rows += [(*names, *_usage(usage)) for usage in attempt.usage]
        if attempt.HasField("estimated"):
            rows.append((*names, *_estimated(attempt.estimated)))
    rows += [("total", "", *_usage(usage)) for usage in totals]
    if rows:
        yield from _lined_up([_COLUMNS, *rows])


def spent(run: lead_pb2.Run) -> Iterator[Text]:
    """What a run has spent of its budget, what of that is estimated, and what is reserved."""
    if run.HasField("budget"):
        yield Text(f"  budget     {read_budget(run.budget).described(read_charge(run.charged))}")
        if run.HasField("reserved"):
            yield Text(f"  reserved   {_amounts(run.reserved)}")
    if run.HasField("estimated"):
        yield Text(f"  estimated  {_amounts(run.estimated)}: what no worker could tell", style="yellow")


def cost(usage: evidence_pb2.ModelUsage) -> str:
    """What a usage cost: "$0.31", or "cost unknown", with what is known of it."""
    if usage.cost_known:
        return dollars(usage.cost_micros)
    return f"cost unknown (over {dollars(usage.cost_micros)})" if usage.cost_micros else "cost unknown"


def _lined_up(rows: Sequence[Sequence[str]]) -> Iterator[Text]:
    """Rows as lines; a table of rich's would cut numbers off where the screen is narrow, or there is none."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = (
            cell.ljust(width) if place in _WORDS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield Text(f"  {'  '.join(cells)}".rstrip(), style="bold" if not number else "")


def _usage(usage: evidence_pb2.ModelUsage) -> tuple[str, ...]:
    counts = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens)
    more = ", more may be billed" if usage.incomplete else ""
    return (usage.model, str(usage.turns), *(f"{count:,}" for count in counts), cost(usage) + more)


def _estimated(estimated: budget_pb2.Charge) -> tuple[str, ...]:
    at_most = f"{estimated.tokens:,} tokens, {dollars(estimated.cost_micros)} at most"
    return ("estimated", str(estimated.turns), "", "", "", "", at_most)


def _amounts(charge: budget_pb2.Charge) -> str:
    told = [f"{charge.tokens:,} tokens"] if charge.tokens else []
    told += [dollars(charge.cost_micros)] if charge.cost_micros else []
    told += [f"{charge.turns:,} turns"] if charge.turns else []
    seconds = charge.wall_time.ToTimedelta().total_seconds()
    told += [f"{seconds:,.0f} s of attempts"] if seconds else []
    return ", ".join(told)
