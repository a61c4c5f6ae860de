"""Running a verification in the sandbox, and reading its report."""

import os
from contextlib import suppress
from pathlib import Path

from services.workers.sandbox import Command, Limits, Sandbox
from services.workers.setup import Environment
from services.workers.verification.parse import ReportError, parse
from services.workers.verification.reading import is_inside, read_file
from services.workers.verification.report import TestCase, TestReport, each_once
from services.workers.verification.runners import NODE, NODE_REPORTER, Reporting, reporting


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

    The report is what the test runner is made to write outside the checkout, or, with `report`, what the
    command writes to that path in it. `timeout` is in seconds. Cancelled, it kills the command. Raises
    SandboxError.
    """
    checkout = Path(os.path.realpath(checkout))
    folder = sandbox.scratch / f"report-{sandbox.new_id()}"
    folder.mkdir()
    try:
        made = reporting(command, checkout, folder, report)
        if report and is_inside(checkout / report, checkout):
            with suppress(OSError):
                (checkout / report).unlink()  # one that was committed proves nothing
        result = await sandbox.run(
            environment.command(
                made.line,
                checkout,
                timeout=timeout,
                writable=(folder,),
                readable=(NODE_REPORTER,),
                env=made.env,
                limits=limits,
            )
        )
        tests, problem = await _read(made, checkout, folder)
    finally:
        rm = ("/bin/rm", "-rf", "--", str(folder))
        await sandbox.run(Command(argv=rm, cwd=sandbox.scratch, writable=(sandbox.scratch,)))
    return TestReport(
        command=command,
        exit_code=result.exit_code,
        tests=tests,
        duration=result.duration,
        mode=result.mode,
        output=result.output,
        output_dropped=result.dropped,
        timed_out=result.timed_out,
        exceeded=result.exceeded,
        bind_denied=result.bind_denied,
        problem=problem,
    )


async def _read(reporting: Reporting, checkout: Path, folder: Path) -> tuple[tuple[TestCase, ...], str]:
    """The tests of the reports found, and why there are none."""
    tests: list[TestCase] = []
    found = False
    try:
        for places in (reporting.own, reporting.made):
            for place in places:
                data = read_file(place, folder if place.is_relative_to(folder) else checkout)
                if data or (
                    data is not None and place.name == NODE
                ):  # node's is empty where there is no test
                    found = True
                    tests += await parse(data, checkout) if data else ()
            if found:
                return each_once(tests), ""
    except ReportError as problem:
        return (), str(problem)
    return (), (
        "the command left no test report: call pytest, node --test, vitest or jest, or have it write"
        " JUnit XML to the path in $CODEFRAME_REPORT"
    )
