"""The scripted Claude as a process: killed, stopped, started again, refused."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from demo.claude.bill import Bill, BillError

BODY = {"model": "claude-sonnet-5", "max_tokens": 99, "stream": True}
HEADERS = {"authorization": "Bearer scripted-key", "anthropic-version": "2026-10-21"}
SCRIPT = """
marker: hello
steps:
  - {when: {turn: 1}, say: One.}
  - {when: {turn: 2}, say: Two., pace: 60}
"""
DEVNULL = subprocess.DEVNULL
Start = Callable[..., tuple["subprocess.Popen[str]", str]]


def asked(turns: int) -> dict[str, object]:
    told = [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Go on."}]
    messages = [{"role": "user", "content": "[script: hello]"}, *told * (turns - 1)]
    return {**BODY, "messages": messages}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    script = tmp_path / "hello.yaml"
    script.write_text(SCRIPT)
    running: list[subprocess.Popen[str]] = []

    def start(*more: str, ready: bool = True, stdin: int = DEVNULL) -> tuple["subprocess.Popen[str]", str]:
        """Start it, and wait for its address where it is to be ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.claude", "--script", str(script), *more],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip() if ready else ""

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, verify=False, headers=HEADERS, timeout=10) as client:
        yield client


def bill_of(http: httpx2.Client, url: str) -> Any:
    return http.get(f"{url}/_scripted/bill").json()


def test_it_says_where_it_serves_and_stops_when_told(
    start: Start, http: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process, url = start("--ready-file", str(tmp_path / "ready"))
    assert len(list(temporary.iterdir())) == 1
    assert (tmp_path / "ready").read_text() == f"{url}\n"
    assert url.startswith("http://127.0.0.1:")
    assert "One." in http.post(f"{url}/v1/messages", json=asked(1)).text
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert list(temporary.iterdir()) == []


def test_it_stops_with_its_parent(start: Start) -> None:
    process, url = start("--exit-with-parent", stdin=subprocess.PIPE)
    assert url
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    assert process.wait(timeout=60) == 0


def test_a_kill_loses_no_line_of_the_bill(start: Start, http: httpx2.Client, tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "data")]
    process, url = start(*data)
    http.post(f"{url}/v1/messages", json=asked(1))
    with http.stream("POST", f"{url}/v1/messages", json=asked(2)) as answer:
        next(answer.iter_raw())  # its input is owed by now
        process.kill()
        process.wait()
    port = url.rpartition(":")[2]
    _, again = start(*data, "--port", port)
    assert again == url
    bill = bill_of(http, url)
    finished = [(r["turn"], r["state"] == "finished", r["marker"]) for r in bill["requests"]]
    assert finished == [(1, True, "hello"), (2, False, "hello")], "owed, and told to nobody whole"
    assert bill["paid_twice"] == []
    http.post(f"{url}/v1/messages", json=asked(1))
    assert bill_of(http, url)["paid_twice"] == [bill["requests"][0]["digest"]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--script", "no-such.yaml"], "no-such.yaml"),
        (["--port", "TAKEN"], "cannot serve on 127.0.0.1:"),
        (["--port", "70000"], "cannot serve on 127.0.0.1:70000"),
        (["--data-dir", "FILE"], "cannot keep a bill there"),
        (["--ready-file", "no-such/ready"], "there is no folder no-such"),
        (["--exit-with-parent"], "standard input is no pipe"),
    ],
)
def test_what_keeps_it_from_serving_is_one_line(
    start: Start, tmp_path: Path, more: list[str], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        real = {"TAKEN": str(taken.getsockname()[1]), "FILE": str(tmp_path / "hello.yaml")}
        process, _ = start(*(real.get(word, word) for word in more), ready=False)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in errors
    assert errors.count("\n") == 1


def test_one_process_keeps_a_bill(tmp_path: Path) -> None:
    bill = Bill(tmp_path, lambda: datetime.now(UTC))
    with pytest.raises(BillError, match="another"):
        Bill(tmp_path, lambda: datetime.now(UTC))
    bill.close()
    Bill(tmp_path, lambda: datetime.now(UTC)).close()


def test_a_torn_line_of_the_bill_is_forgotten(tmp_path: Path) -> None:
    whole = json.dumps({"request_id": "req_1", "state": "finished", "digest": "d", "output_tokens": 3})
    (tmp_path / "bill.jsonl").write_text(f'{whole}\n{{"request_id": "req_2", "sta')
    bill = Bill(tmp_path, lambda: datetime.now(UTC))
    bill.refused("req_3", 400, "no", None)
    assert [request["request_id"] for request in bill.requests()] == ["req_1", "req_3"]
    bill.close()
