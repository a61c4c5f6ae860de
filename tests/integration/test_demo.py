"""The demo, start to end, with servers killed in the midst of it; and stopped before its end."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.workers.sandbox import Mode
from tests.sandboxes import allows

CHECKOUT = Path(__file__).parents[2]
# What is killed, and the line that says when.
KILLS = {
    "orders: in progress, working": "claude",
    "orders: in progress, verifying": "gateway",
    "checkout: in progress, working": "lead",
    "checkout-page: in progress, working": "frontend",
}


@contextmanager
def playing(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """The demo as a process, stopped at the end of the block."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo", "--keep", str(folder), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield demo
    finally:
        demo.terminate()
        demo.communicate()  # a test reads by lines, so that this may read the rest


def lines_of(demo: "subprocess.Popen[str]") -> Iterator[str]:
    assert demo.stdout is not None
    return iter(demo.stdout)


def pids_of(line: str) -> dict[str, int]:
    """What the demo's line about its processes says."""
    return {name: int(pid) for name, pid in re.findall(r"(\w+) (\d+)", line.partition(": ")[2])}


def assert_gone(pids: dict[str, int]) -> None:
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def branches_of_the_demo(folder: Path) -> list[str]:
    """What is there of ours in the demo's repository, without the run's id."""
    command = ["git", "for-each-ref", "--format=%(refname:lstrip=4)", "refs/heads/codeframe/"]
    return subprocess.check_output(command, cwd=folder / "repository", text=True).split()


def files_of_the_demo() -> str:
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--", "demo"]
    return subprocess.check_output(command, cwd=CHECKOUT, text=True)


@pytest.mark.timeout(400)
def test_the_demo_completes_whatever_server_is_killed(tmp_path: Path) -> None:
    before = files_of_the_demo()
    left = dict(KILLS)
    said: list[str] = []
    pids: dict[str, int] = {}
    with playing(tmp_path / "demo") as demo:
        for line in lines_of(demo):
            said.append(line)
            if line.startswith("processes: "):
                pids = pids_of(line)
            if name := left.pop(line.strip(), None):
                os.kill(pids[name], signal.SIGKILL)
        output = "".join(said)
        assert demo.wait() == 0, output
    assert left == {}
    assert re.search(r"run \S+ COMPLETED", output)
    assert re.search(r"branch +codeframe/\S+/head", output)
    assert re.search(r"\d+ turns finished, 0 of them twice", output)
    assert re.search(r"checkout +backend .* green: 18 passed, 0 failed", output)
    assert said[-1].startswith("COMPLETED")
    assert files_of_the_demo() == before
    assert_gone(pids)
    left_there = branches_of_the_demo(tmp_path / "demo")
    assert "head" in left_there
    assert not [name for name in left_there if name.startswith("next/")]


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_the_demo_of_a_goal_shows_its_plan_and_does_it(tmp_path: Path) -> None:
    """In the second sandbox, where the machine has it: what people see in most containers."""
    mode = "sandlock" if allows(Mode.SANDLOCK) else "auto"
    with playing(tmp_path / "demo", "--goal", "--pace", "0", "--sandbox", mode) as demo:
        output = "".join(lines_of(demo))
        assert demo.wait() == 0, output
    assert "planning: the plan cannot be run: tasks[2].depends_on[0]" in output
    plan, running = output.index("the plan: Orders and stock"), output.index("run: RUNNING")
    assert plan < running, "it is shown before it is done"
    assert "  orders-tests [test] Tests for the edges of orders (after orders)\n" in output
    confined = "sandlock" if mode == "sandlock" else r"\w+"
    assert len(re.findall(rf"completed .* green: .*; sandbox {confined}", output)) == 3
    assert re.search(r"run \S+ COMPLETED: Customers can put together an order, and", output)
    assert branches_of_the_demo(tmp_path / "demo") == ["head"], "every attempt was merged"


@pytest.mark.thorough
@pytest.mark.timeout(120)
def test_a_demo_that_is_stopped_leaves_nothing_running(tmp_path: Path) -> None:
    pids: dict[str, int] = {}
    with playing(tmp_path / "demo") as demo:
        for line in lines_of(demo):
            if line.startswith("processes: "):
                pids = pids_of(line)
            if line.startswith("run "):  # it has just been created: its base is being set up
                demo.send_signal(signal.SIGINT)
        assert demo.wait() == 130
    assert len(pids) == 7
    assert_gone(pids)
