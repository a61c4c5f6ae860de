"""Mutants tried one at a time on a scratch checkout, until a new test fails on one."""

import asyncio
import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.workers.broadcast import Activity, Broadcast
from services.workers.checking import Checker
from services.workers.clock import Clock
from services.workers.mutation.mutant import Mutant, chosen
from services.workers.mutation.other_code import mutants_by_token
from services.workers.mutation.python_code import is_python, python_mutants
from services.workers.mutation.under_test import PYTHON, code_under_test, sources_of
from services.workers.setup import Environment
from services.workers.tools.clip import line
from services.workers.verification import narrowed
from services.workers.verification.reading import is_inside
from services.workers.work import Mutation, MutationCheck

MOST_MUTANTS = 20
MOST_SECONDS = 120.0  # after which no other is tried
LANGUAGES = "Python, JavaScript, TypeScript, Go, Rust"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried: a green commit, its test files that the attempt wrote, the base's code, and the ids of
    the new tests that pass."""

    commit: str
    tests: tuple[str, ...]
    code: Collection[str]
    new_tests: frozenset[str]


class MutationTrial:
    """Tries mutants with an attempt's checks."""

    def __init__(self, checker: Checker, clock: Clock, broadcast: Broadcast) -> None:
        self._checker = checker
        self._clock = clock
        self._broadcast = broadcast

    async def run(self, subject: Subject, environment: Environment | None) -> MutationCheck:
        """Whether one of the new tests fails on a mutant, and passes without it.

        At most 20 mutants are tried, and none after two minutes. Cancelled, it kills what runs. Raises
        SandboxError, SetupFailed, GitError.
        """
        started = self._clock.monotonic()
        tried: list[Mutant] = []
        failed, not_done = "", ""
        sources = sources_of(subject.tests, subject.code)
        if not subject.tests:
            not_done = "no test file was added or changed"
        elif not sources:
            not_done = f"the base has no code in a language that can be mutated ({LANGUAGES})"
        else:
            async with self._checker.checkout(subject.commit) as tree:
                environment = environment or await self._checker.prepare(tree)
                mutants = await _mutants(tree, subject, sources)
                if not mutants:
                    not_done = "the code under test has nothing that could be mutated"
                for mutant, source in mutants:
                    if tried and self._clock.monotonic() - started > MOST_SECONDS:
                        break
                    tried.append(mutant)
                    failed = await self._noticed(tree, environment, mutant, source, subject)
                    said = f"noticed by {failed}" if failed else "not noticed"
                    await self._broadcast(Activity("mutation", f"{mutant}: {said}"))
                    if failed:
                        break
        return MutationCheck(
            commit=subject.commit,
            tried=tuple(Mutation(one.path, one.line, line(one.before), line(one.after)) for one in tried),
            failed_test=failed,
            not_done=not_done,
            duration=timedelta(seconds=self._clock.monotonic() - started),
        )

    async def _noticed(
        self, tree: Path, environment: Environment, mutant: Mutant, source: bytes, subject: Subject
    ) -> str:
        """The id of a new test that fails on a mutant and passes without it; empty where none does."""
        if not _write(tree / mutant.path, tree, mutant.applied(source)):
            return ""
        failing = await self._failing(tree, environment, subject)
        if not _write(tree / mutant.path, tree, source) or not failing:
            return ""
        failing -= await self._failing(tree, environment, subject)  # one that fails anyway proves nothing
        return min(failing, default="")

    async def _failing(self, tree: Path, environment: Environment, subject: Subject) -> frozenset[str]:
        """The new tests that ran and failed. One that could not be run has noticed nothing."""
        command = self._checker.command
        narrow = narrowed(command, subject.tests, tree)
        report = await self._checker.run(tree, environment, narrow or command)
        return subject.new_tests.intersection(report.failed)


async def _mutants(tree: Path, subject: Subject, sources: Collection[str]) -> list[tuple[Mutant, bytes]]:
    """The mutants to try, each with the bytes of its file."""
    files, words = await code_under_test(tree, subject.tests, sources)
    texts = dict(files)
    found: list[Sequence[Mutant]] = []
    for path, source in files:
        find = python_mutants if path.endswith(PYTHON) else mutants_by_token
        found.append(find(path, source))
        await asyncio.sleep(0)
    likeliest = chosen(found, words, 2 * MOST_MUTANTS)
    pairs = [(mutant, texts[mutant.path]) for mutant in likeliest]
    sound = [
        (mutant, source)
        for mutant, source in pairs
        if not mutant.path.endswith(PYTHON) or is_python(mutant.applied(source))
    ]
    return sound[:MOST_MUTANTS]


def _write(place: Path, tree: Path, data: bytes) -> bool:
    """Write a plain file that is there; whether it could be. Tests ran here: a link leads nowhere."""
    if not is_inside(place, tree):
        return False
    try:
        fd = os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with open(fd, "wb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        file.write(data)
    return True
