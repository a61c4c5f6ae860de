"""A suite that does what honest tests do, and binds no port, is green in each mode of the sandbox.

It has none of the locks and pools of multiprocessing, which docs/sandbox.md says that sandlock refuses.
"""

from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2
from services.workers.sandbox import Mode
from tests.attempts import verify_request
from tests.python_project import make_python, python_project
from tests.sandboxes import each_mode
from tests.worker_stage import serving

HONEST = """\
import asyncio
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor


def test_files(tmp_path):
    (tmp_path / "a").write_text("text")
    (tmp_path / "a").chmod(0o600)
    os.utime(tmp_path / "a", (1, 1))
    os.link(tmp_path / "a", tmp_path / "b")
    os.symlink("b", tmp_path / "c")
    shutil.copytree(tmp_path, tmp_path / "copy", symlinks=True)
    os.replace(tmp_path / "copy" / "a", tmp_path / "d")
    assert (tmp_path / "d").read_text() == "text"
    shutil.rmtree(tmp_path / "copy")
    with tempfile.TemporaryFile() as file:
        file.write(b"x")


def test_writes_in_the_project():
    with open("made", "w") as made:
        made.write("x")
    os.remove("made")


def test_processes():
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout == b"1\\n"
    assert subprocess.run("echo a | cat", shell=True, capture_output=True).stdout == b"a\\n"
    with subprocess.Popen(["sleep", "600"]) as child:
        child.send_signal(signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


def test_own_limits_and_priority():
    now = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, now[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, now)
    os.nice(1)
    os.sched_setaffinity(0, os.sched_getaffinity(0))


def test_threads_pools_and_loops():
    one = threading.Thread(target=print)
    one.start()
    one.join()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    child = multiprocessing.get_context("fork").Process(target=print)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert asyncio.run(asyncio.sleep(0, 3)) == 3


def test_pairs_of_sockets():
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"
"""


@pytest.mark.parametrize("mode", each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
async def test_an_honest_suite_is_green(tmp_path: Path, mode: Mode) -> None:
    make_python(tmp_path / "venv")
    base = python_project(tmp_path / "project", tmp_path / "venv", {"tests/test_honest.py": HONEST})
    async with serving(tmp_path / "data", sandbox=mode.value) as worker:
        result = await worker.result(verify_request(tmp_path / "project", base, passing=[]))
    assert result.outcome == evidence_pb2.OUTCOME_SUCCEEDED, str(result)
    (verification,) = result.verifications
    assert verification.green
    assert (verification.passed, verification.sandbox_mode) == (6, mode.value)
