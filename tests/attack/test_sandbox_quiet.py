"""Tests of a project that write, read, reach or steer what is not theirs, run as a worker runs tests.

All are tests of one commit, which a worker's process verifies in each mode. Whether one did harm is judged
from outside: by the file that it was after, by what left the worker, and by listeners on the loopback.
"""

import asyncio
import ctypes
import json
import os
import platform
import re
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2
from services.workers.sandbox import Mode
from tests.attack.conftest import Try
from tests.attack.hostile import Hostile, known, module
from tests.attack.quiet_attacks import QUIET
from tests.attack.tally import Kind
from tests.attempts import verify_request
from tests.python_project import python_project
from tests.sandboxes import each_mode
from tests.server_process import plain_environment
from tests.worker_process import Worker, started

HONEST = "tests/test_hostile.py::test_honest"
SEGMENT = 4096  # bytes
SIGNALS = {
    signal.SIGURG: b"signals everybody\n",
    signal.SIGWINCH: b"signals all above it\n",
}


@dataclass(slots=True)
class Machine:
    """What stands outside of the sandbox, each with a secret of its own, and what listeners there heard."""

    folder: Path
    secrets: dict[str, str] = field(default_factory=dict)
    looked: dict[str, object] = field(default_factory=dict)
    heard: bytearray = field(default_factory=bytearray)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def secret(self, name: str) -> str:
        """A secret that nothing else holds."""
        return self.secrets.setdefault(name, f"secret-{name.replace(' ', '-')}-{uuid.uuid4().hex}")

    def hide(self, place: Path, name: str) -> Path:
        """A file that holds a secret."""
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(self.secret(name))
        return place

    def victim(self, attack: Hostile) -> Path:
        return self.outside / attack.name.replace(" ", "-")

    def harmed(self, attack: Hostile, told: str) -> bool:
        """Whether an attack changed its victim, had a secret told, or was heard."""
        victim = self.victim(attack)
        changed = not victim.is_file() or victim.read_text() != self.secret(attack.name)
        changed = changed or looks(victim) != self.looked[attack.name]
        # What the source says is no secret: it joins the words.
        found = re.search(rf"found by {attack.name}: [^\n]*secret-", told)
        return changed or found is not None or attack.name.encode() in bytes(self.heard)


def looks(place: Path) -> object:
    """What of a file stands beside its text."""
    it = place.stat()
    return it.st_mode, it.st_uid, it.st_gid, it.st_mtime_ns, it.st_nlink, sorted(os.listxattr(place))


@asynccontextmanager
async def machine(folder: Path) -> AsyncIterator[Machine]:
    """A home, files, sockets and shared memory, which hostile tests are after."""
    it = Machine(folder)
    for attack in QUIET:
        it.hide(it.outside / attack.name.replace(" ", "-"), attack.name)
    it.hide(folder / "home" / ".ssh" / "id_ed25519", "home")
    other = it.hide(folder / "data" / "attempts" / "other" / "tree" / "code.py", "other")
    it.facts = {"outside": str(it.outside), "home": str(folder / "home"), "other": str(other)}
    it.facts |= {"data": str(folder / "data"), "project": str(folder / "project"), "uid": os.getuid()}
    it.facts["tester"] = os.getpid()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.heard += b"connected: " + await reader.read() + b"\n"
        writer.close()

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            it.heard.extend(data + b"\n")

    async with AsyncExitStack() as stack:
        tcp = await stack.enter_async_context(await asyncio.start_server(hear, "127.0.0.1", 0))
        it.facts["port"] = tcp.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        udp, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        stack.callback(udp.close)
        it.facts["udp"] = udp.get_extra_info("sockname")[1]
        for name in ("socket", "agent"):
            it.facts[name] = str(folder / name)
            await stack.enter_async_context(await asyncio.start_unix_server(hear, folder / name))
        it.facts["abstract"] = f"codeframe-{uuid.uuid4().hex}"
        await stack.enter_async_context(await asyncio.start_unix_server(hear, f"\0{it.facts['abstract']}"))
        it.facts["segment"] = stack.enter_context(shared_memory(it.secret("segment")))
        shm = Path("/dev/shm", f"codeframe-{uuid.uuid4().hex}")
        victim = it.outside / "writes-into-shared-memory"
        shm.write_text(victim.read_text())
        victim.unlink()
        victim.symlink_to(shm)
        stack.callback(shm.unlink)
        it.facts["shm"] = shm.name
        for number, who in SIGNALS.items():
            loop.add_signal_handler(number, it.heard.extend, who)
            stack.callback(loop.remove_signal_handler, number)
        it.facts["key"] = stack.enter_context(kernel_key(it.secret("kernel")))
        it.facts["leftover"] = stack.enter_context(nothing_left())
        it.looked = {attack.name: looks(it.victim(attack)) for attack in QUIET}
        yield it


@contextmanager
def shared_memory(secret: str) -> Iterator[int]:
    """The key of a System V segment that holds a secret."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    key = uuid.uuid4().int % 2**31
    number = libc.shmget(key, SEGMENT, 0o1600)  # IPC_CREAT, for this user
    assert number >= 0, os.strerror(ctypes.get_errno())
    place = libc.shmat(number, None, 0)
    ctypes.memmove(place, secret.encode(), len(secret))
    try:
        yield key
    finally:
        libc.shmdt(ctypes.c_void_p(place))
        libc.shmctl(number, 0, None)  # IPC_RMID


@contextmanager
def kernel_key(secret: str) -> Iterator[str]:
    """The name of a key of the user's session, which holds a secret."""
    libc, name = ctypes.CDLL(None, use_errno=True), f"codeframe:{uuid.uuid4().hex}"
    add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
    key = libc.syscall(add_key, b"user", name.encode(), secret.encode(), len(secret), -5)
    assert key > 0, os.strerror(ctypes.get_errno())
    try:
        yield name
    finally:
        libc.syscall(keyctl, 9, key, -5)  # KEYCTL_UNLINK


@contextmanager
def nothing_left() -> Iterator[int]:
    """A key of System V under which nothing stands, and nothing may stand in the end."""
    libc, key = ctypes.CDLL(None, use_errno=True), uuid.uuid4().int % 2**31
    yield key
    number = libc.shmget(key, 0, 0)
    if number >= 0:
        libc.shmctl(number, 0, None)  # IPC_RMID
    assert number < 0, "shared memory was left behind"


async def all_told(worker: Worker, attempt_id: str, result: evidence_pb2.TaskResult) -> str:
    """All that leaves the worker: the result, and every artifact."""
    parts = [str(result).encode()]
    parts += [await worker.artifact(attempt_id, artifact.name) for artifact in result.artifacts]
    return b"\n".join(parts).decode(errors="replace")


@dataclass(frozen=True)
class Seen:
    """What came of one verification."""

    mode: str
    result: evidence_pb2.TaskResult
    told: str
    states: dict[str, str]


async def verified(it: Machine, python: Path, mode: Mode) -> Seen:
    """Have a worker of this mode verify a commit with every quiet attack."""
    env = plain_environment(ANTHROPIC_API_KEY=it.secret("key"), HOME=str(it.folder / "home"))
    env["SSH_AUTH_SOCK"] = str(it.facts["agent"])
    flags = ("--sandbox", mode.value, "--no-setup-network")
    async with started(it.folder, env, *flags, role="test") as worker:
        facts = known(worker=worker.process.pid, none=mode is Mode.NONE, **it.facts)
        it.hide(Path(str(it.facts["other"])), "other")  # the worker swept what it found
        files = {"tests/test_hostile.py": module(QUIET), "tests/known.json": facts}
        base = python_project(it.folder / "project", python, files)
        request = verify_request(it.folder / "project", base, passing=[HONEST], timeout=100, test_timeout=90)
        result = await worker.result(request)
        told = await all_told(worker, request.attempt_id, result)
        report = json.loads(await worker.artifact(request.attempt_id, "test-report"))
        # It has come, where it was sent: a connection is heard of once the server's loop turns.
        await asyncio.sleep(0)
        states = {test["id"].rpartition("::")[2]: test["state"] for test in report["tests"]}
        assert worker.process.returncode is None
        return Seen(worker.told.sandbox_mode, result, told, states)


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
def mode(request: pytest.FixtureRequest) -> Mode:
    held: Mode = request.param
    return held


async def test_none_of_them_does_harm(tmp_path: Path, python: Path, mode: Mode, attack: Try) -> None:
    tried = {one: attack(Kind.SANDBOX, mode.value) for one in QUIET}
    async with machine(tmp_path) as it:
        seen = await verified(it, python, mode)
        harmed = [one for one in QUIET if it.harmed(one, seen.told)]
        for one in harmed:
            tried[one].won()
        assert [one.name for one in harmed] == []
        assert [name for name, secret in it.secrets.items() if secret in seen.told] == []
        assert it.heard == b"", "somebody connected"
        # Each is reported: it is a test that is not green, and so is the whole.
        assert seen.states.pop("test_honest") == "TEST_STATE_PASSED"
        assert seen.states == {one.test: "TEST_STATE_FAILED" for one in QUIET}
        assert seen.result.outcome == evidence_pb2.OUTCOME_VERIFICATION_FAILED
        (verification,) = seen.result.verifications
        assert not verification.green
        assert seen.mode == seen.result.sandbox_mode == verification.sandbox_mode == mode.value


async def test_without_a_sandbox_they_do(tmp_path: Path, python: Path) -> None:
    """So each is a real attack, and is seen where it works."""
    async with machine(tmp_path) as it:
        seen = await verified(it, python, Mode.NONE)
        real = [one for one in QUIET if one.control and (os.geteuid() == 0 or not one.root)]
        assert [one.name for one in real if not it.harmed(one, seen.told)] == []
        assert seen.result.sandbox_mode == "none"
