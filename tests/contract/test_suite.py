"""The suite's own promises: what a failing test shows, and what a blocked loop costs."""

import asyncio
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STARTS_ONE = """
    import subprocess, sys

    def start(folder, text):
        with (folder / "worker.log").open("a") as log:
            subprocess.run([sys.executable, "-c", f"print({text!r})"], stdout=log, check=True)
"""


async def suite(folder: Path, tests: str, *plugins: str) -> tuple[int, str]:
    """The exit code and the output of tests with our plugins."""
    (folder / "test_planted.py").write_text(textwrap.dedent(STARTS_ONE) + textwrap.dedent(tests))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider"),
        *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "--basetemp", str(folder / "temp")),
        *(word for plugin in plugins for word in ("-p", plugin)),
        str(folder / "test_planted.py"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_failing_test_shows_the_logs_of_its_processes_and_no_others(tmp_path: Path) -> None:
    planted = """
        def test_before(tmp_path):
            start(tmp_path, "of another test")

        def test_fails(tmp_path):
            start(tmp_path, "attempt ended outcome=lost")
            assert False
    """
    code, said = await suite(tmp_path, planted, "tests.conftest")
    assert code == 1
    assert "test_fails0/worker.log" in said
    assert "attempt ended outcome=lost" in said
    assert "of another test" not in said


async def test_a_blocked_loop_fails_the_integration_test_whose_it_is_or_that_started_its_process(
    tmp_path: Path,
) -> None:
    planted = """
        import asyncio, time

        async def test_blocks():
            await asyncio.sleep(0)
            time.sleep(1.3)

        async def test_waits():
            await asyncio.sleep(1.3)

        def test_needs_no_loop():
            time.sleep(1.3)

        def test_human(tmp_path):
            start(tmp_path, "2026-11-27 [warning  ] the event loop was held up     seconds=1.75 service=lead")

        def test_json(tmp_path):
            start(tmp_path, '{"seconds": 2.5, "event": "x"}')
            start(tmp_path, '{"seconds": 1.5, "event": "the event loop was held up"}')

        def test_a_little(tmp_path):
            start(tmp_path, "2026-11-27 [warning  ] the event loop was held up     seconds=0.6 service=lead")
    """
    code, said = await suite(tmp_path, planted, "tests.conftest", "tests.integration.conftest")
    assert code == 1
    assert "6 passed, 3 errors" in said
    assert set(re.findall(r"^ERROR \S*::(\w+)", said, re.MULTILINE)) == {
        "test_blocks",
        "test_human",
        "test_json",
    }
    assert "event loops were held up, in seconds: {'this test': 1." in said
    assert "{'worker.log': 1.75}" in said
    assert "{'worker.log': 1.5}" in said
