"""Running a verification in the sandbox, and reading its report."""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from services.workers.sandbox import Command, Limits, Sandbox
from services.workers.setup import Environment
from services.workers.verification.parse import ReportError, bounded, parse
from services.workers.verification.pipe import Pipe, listening
from services.workers.verification.reading import is_inside, read_file
from services.workers.verification.report import TestCase, TestReport, each_once
from services.workers.verification.runners import NODE_REPORTER, PYTEST_PLUGIN, SHIMS, Reporting, reporting
from services.workers.verification.witnessed import read_witness


async def verify(
    sandbox: Sandbox,
    environment: Environment,
    checkout: Path,
    command: str,
    *,
    report: str = "",
    timeout: float = 300.0,
    limits: Limits | None = None,
) -> TestReport:
    """Run the shell line `command` at the root of `checkout`, which it may write, and read its test report.

    The report is what the test runner is made to tell, and what the command writes to `report`, a path in the
    checkout, or to $CODEFRAME_REPORT. `timeout` is in seconds. Cancelled, it kills the command. Raises
    SandboxError.
    """
    checkout = Path(os.path.realpath(checkout))
    environment = replace(environment, path=(SHIMS, *environment.path))
    folder = sandbox.scratch / f"report-{sandbox.new_id()}"
    folder.mkdir()
    try:
        made = reporting(command, checkout, folder, report)
        if report and is_inside(checkout / report, checkout):
            with suppress(OSError):
                (checkout / report).unlink()  # one that was committed proves nothing
        with listening(made.witness) as witness, listening(made.jest) as jest:
            result = await sandbox.run(
                environment.command(
                    made.line,
                    checkout,
                    timeout=timeout,
                    writable=(folder,),
                    readable=(NODE_REPORTER, PYTEST_PLUGIN.parent, SHIMS),
                    env=made.env,
                    limits=limits,
                    imports=(PYTEST_PLUGIN.parent,),
                )
            )
            found = await _read(made, checkout, folder, witness, jest)
    finally:
        rm = ("/bin/rm", "-rf", "--", str(folder))
        await sandbox.run(Command(argv=rm, cwd=sandbox.scratch, writable=(sandbox.scratch,)))
    return TestReport(
        command=command,
        exit_code=result.exit_code,
        tests=found.tests,
        duration=result.duration,
        mode=result.mode,
        output=result.output,
        timed_out=result.timed_out,
        exceeded=result.exceeded,
        bind_denied=result.bind_denied,
        problem=found.problem,
        steering=found.steering,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of a run's reports; `problem` is what is wrong with them."""

    tests: tuple[TestCase, ...] = ()
    steering: tuple[str, ...] = ()
    problem: str = ""


async def _read(made: Reporting, checkout: Path, folder: Path, witness: Pipe, jest: Pipe) -> _Found:
    """All that was told and written. A test that is told of twice counts as the worse."""
    try:
        witnessed = await read_witness(witness.all())
        tests = list(bounded(witnessed.tests, checkout))
        whole = jest.all()
        for data in (whole, *(read_file(place, _root(place, checkout, folder)) for place in made.own)):
            if data:
                tests += await parse(data, checkout)
    except ReportError as problem:
        return _Found(problem=str(problem))
    wrong = ""
    if witnessed.unended > 0:
        wrong = "the test runner was ended before it came to its end"
    elif not tests and not witnessed.began and not whole:
        wrong = NO_REPORT
    return _Found(each_once(tests), witnessed.steering, wrong)


def _root(place: Path, checkout: Path, folder: Path) -> Path:
    return folder if place.is_relative_to(folder) else checkout


NO_REPORT = (
    "the command left no test report: call pytest, node --test, vitest, jest, go test or cargo test, or have"
    " it write JUnit XML to the path in $CODEFRAME_REPORT"
)
