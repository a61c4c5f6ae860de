"""Log lines as they are written."""

import json
import subprocess
import sys

import pytest

LOGGING = """
import logging, sys, structlog
from services.runtime.logs import configure_logs
configure_logs("example", sys.argv[1], "info")
log = structlog.get_logger()
log.debug("not told")
with structlog.contextvars.bound_contextvars(run="r1", task="1.5", attempt="r1.1.5.1"):
    log.info("asked", url="http://user:hunter2@host/x", header="Bearer abcdefghijk")
logging.getLogger("a.library").warning("odd: %s", "sk-ant-api03-AbC_d-9")
logging.getLogger("a.library").info("not told")
def fail():
    password = "hunter2"
    raise RuntimeError("broken")
try:
    fail()
except RuntimeError:
    log.exception("failed")
"""


def logged(format: str) -> str:
    done = subprocess.run([sys.executable, "-c", LOGGING, format], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_json_has_one_object_a_line_with_what_is_bound() -> None:
    asked, odd, failed = map(json.loads, logged("json").splitlines())
    assert asked["event"] == "asked"
    assert (asked["run"], asked["task"], asked["attempt"]) == ("r1", "1.5", "r1.1.5.1")
    assert (asked["service"], asked["level"]) == ("example", "info")
    assert asked["timestamp"].endswith("Z")
    assert (odd["event"], odd["level"]) == ("odd: [secret]", "warning")
    assert "RuntimeError: broken" in failed["exception"]


@pytest.mark.parametrize("format", ["json", "human"])
def test_secrets_and_local_variables_are_never_logged(format: str) -> None:
    text = logged(format)
    for secret in ("hunter2", "abcdefghijk", "sk-ant"):
        assert secret not in text.replace('password = "hunter2"', "")
    assert "not told" not in text
    assert "RuntimeError: broken" in text


def test_people_get_one_line_an_event() -> None:
    first = logged("human").splitlines()[0]
    assert "asked" in first
    assert "attempt=r1.1.5.1" in first
