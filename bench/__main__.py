"""python -m bench: measures, prints and writes; with --floor, exits 1 where a ratio is below it."""

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.figures import OURS, Figures, as_json, as_text, short_of
from bench.process import Started, started
from bench.task import SLOTS, request
from codeframe.v1 import evidence_pb2, worker_pb2_grpc
from services.runtime.channel import open_channel

THREADS = (6, 64)
SIZES = (1, 100, 1000)
ONE_BY_ONE = 20  # tasks, of which the rate of one at a time is taken
WARM_UP = 200


def main(given: Sequence[str]) -> int:
    """Measure. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often all are measured (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--floor", type=Path, metavar="FILE", help="the least ratios")
    options = parser.parse_args(given)
    figures = asyncio.run(measure(options.rounds))
    print(as_text(figures))
    measured = as_json(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        machine = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        }
        options.json.write_text(json.dumps({"machine": machine, "figures": measured}, indent=2) + "\n")
    short = short_of(json.loads(options.floor.read_text()), measured) if options.floor else []
    for line in short:
        print(line, file=sys.stderr)
    return 1 if short else 0


async def measure(
    rounds: int, sizes: Sequence[int] = SIZES, threads: Sequence[int] = THREADS, warm_up: int = WARM_UP
) -> list[Figures]:
    """Measure all contestants in turns, so that what the machine does besides befalls each alike."""
    async with AsyncExitStack() as stack:
        port = (await stack.enter_async_context(started("bench.model_server"))).said
        servers = {OURS: await stack.enter_async_context(started("bench.ours", port))}
        for many in threads:
            serving = started("bench.threaded", str(many), port)
            servers[f"{many} threads"] = await stack.enter_async_context(serving)
        contestants = {
            name: Contestant(name, server, await stack.enter_async_context(open_channel(server.said)))
            for name, server in servers.items()
        }
        for contestant in contestants.values():
            await contestant.run(warm_up)
        figures = [
            Figures(size, {name: [] for name in contestants}, {name: [] for name in contestants})
            for size in sizes
        ]
        for number in range(rounds):
            for each in figures:
                names = list(contestants)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    rate, cpu = await contestants[name].run(each.tasks)
                    each.rates[name].append(rate)
                    each.cpu[name].append(cpu)
    return figures


class Contestant:
    """A server that does tasks."""

    def __init__(self, name: str, server: Started, channel: Any) -> None:
        self._name = name
        self._server = server
        self._stub = worker_pb2_grpc.WorkerServiceStub(channel)
        self._done = 0

    async def run(self, tasks: int) -> tuple[float, float]:
        """Have so many tasks done, as many at a time as a worker has slots.

        Returns how many a second were, and the server's processor time for each. Of one task it is those of
        some, one after the other.
        """
        lanes, tasks = (1, ONE_BY_ONE) if tasks == 1 else (min(SLOTS, tasks), tasks)
        waiting = iter(range(self._done, self._done + tasks))
        self._done += tasks
        now = asyncio.get_running_loop().time
        began, cpu = now(), self._server.cpu_seconds()
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(self._do(waiting))
        return tasks / (now() - began), (self._server.cpu_seconds() - cpu) / tasks

    async def _do(self, waiting: Iterator[int]) -> None:
        for number in waiting:
            response = await self._stub.ExecuteTask(request(f"{self._name}-{number}".replace(" ", "-")))
            if response.result.outcome != evidence_pb2.OUTCOME_SUCCEEDED:
                raise RuntimeError(f"{self._name}: {response.result}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
