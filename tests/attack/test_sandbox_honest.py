"""A suite that does what honest tests do, and binds no port, is green in each mode of the sandbox."""

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
import ctypes
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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.shared_memory import SharedMemory


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
        os.fchmod(file.fileno(), 0o640)
    with open(tmp_path / "d") as file:
        os.fchmod(file.fileno(), 0o640)
        os.utime(file.fileno(), (2, 2))
        os.chmod(f"/proc/self/fd/{file.fileno()}", 0o600)
    os.utime(tmp_path / "c", (3, 3), follow_symlinks=False)
    found = os.stat(tmp_path / "d")
    assert (found.st_mode & 0o777, found.st_mtime) == (0o600, 2)
    assert os.lstat(tmp_path / "c").st_mtime == 3
    folder = os.open(tmp_path, os.O_RDONLY)
    os.chmod("d", 0o400, dir_fd=folder)
    os.chown("d", os.getuid(), os.getgid(), dir_fd=folder)
    assert subprocess.run(["cp", "-a", tmp_path, "copied"], check=True)
    assert os.stat("copied/d").st_mtime == 2
    shutil.rmtree("copied")


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


def test_watches_its_files(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)
    watches = libc.inotify_init1(0)
    assert libc.inotify_add_watch(watches, bytes(tmp_path), 0x100) == 1  # IN_CREATE
    (tmp_path / "new").write_text("")
    assert b"new" in os.read(watches, 4096)


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


def test_locks_queues_and_pools_of_processes():
    fork = multiprocessing.get_context("fork")
    lock, queue, ready = fork.Lock(), fork.Queue(), fork.Event()

    def work():
        with lock:
            queue.put("done")
        ready.set()

    child = fork.Process(target=work)
    child.start()
    assert ready.wait(30)
    assert queue.get(timeout=30) == "done"
    child.join()
    with fork.Pool(2) as pool:
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    assert list(fork.Array("i", [1, 2])) == [1, 2]


def test_shared_memory():
    ours = SharedMemory(create=True, size=4096)
    theirs = SharedMemory(ours.name)
    ours.buf[0] = 7
    assert theirs.buf[0] == 7
    theirs.close()
    ours.close()
    ours.unlink()
    with open("/dev/shm/a-file", "w") as file:
        file.write("x")
    with open("/dev/shm/a-file") as file:
        assert file.read() == "x"
    os.unlink("/dev/shm/a-file")
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(b"x")


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
    assert (verification.passed, verification.sandbox_mode) == (9, mode.value)
