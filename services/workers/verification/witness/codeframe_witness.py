"""A plugin that has pytest tell how each test ended, as it ends, to a pipe: what was told stays told.

It runs in the project's own Python (3.7 or newer), and needs nothing but pytest. It says JSON, a line each:

- `{"start": pid}` and `{"end": status}`: one of each by a session that came to its end;
- `{"id": ..., "state": ..., "message": ...}`: a test by what it raised, whatever a report was changed to;
- `{"steers": ...}`: something of the tree itself takes part in how tests are found, run or told.

It cannot keep code that runs in the same process from writing here what it likes: docs/evidence.md.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import sysconfig
import types
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

PIPE = "CODEFRAME_WITNESS"
LINE = 4000  # bytes; a pipe takes less than 4096 in one piece, also from several processes
ID = 600  # characters
MESSAGE = 2500

# Hooks that have no say in what runs and how it ends. All others, implemented by the tree itself, steer.
HARMLESS = {
    "pytest_addhooks", "pytest_addoption", "pytest_assertion_pass", "pytest_assertrepr_compare",
    "pytest_configure", "pytest_make_parametrize_id", "pytest_markeval_namespace",
    "pytest_plugin_registered", "pytest_report_collectionfinish", "pytest_report_header",
    "pytest_terminal_summary", "pytest_warning_recorded",
}  # fmt: skip
OBSERVED = ("_pytest.", "pluggy.", "unittest.case.", "codeframe_witness.")
OWN_PATCHES = os.path.join("_pytest", "legacypath.py")  # pytest's own
HERE = os.getcwd()  # a test may leave it
WORST = ("skipped", "passed", "failed", "error")


class Witness:
    """Tells one pytest process's tests."""

    def __init__(self, place: str) -> None:
        self._config: Any = None
        self._works_for_another = "PYTEST_XDIST_WORKER" in os.environ
        self._pipe = os.open(place, os.O_WRONLY)
        self._raised: dict[tuple[str, str], str] = {}
        self._bodies: dict[str, Any] = {}
        self._told: set[str] = set()
        self._steering: set[str] = set()
        self._known = functions()
        self._status = -1
        if not self._works_for_another:
            self.say(start=os.getpid())

    def say(self, **line: Any) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
        if len(data) > LINE:
            data = json.dumps(dict(line, message="")).encode()[:LINE]
        os.write(self._pipe, data + b"\n")

    def tell(self, nodeid: str, state: str, message: str = "") -> None:
        self._told.add(nodeid)
        self.say(id=short(nodeid), state=state, message=clipped(message))

    def steers(self, what: str) -> None:
        if what not in self._steering:
            self._steering.add(what)
            self.say(steers=short(what))

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self) -> Iterator[None]:
        self._known = functions()  # with those of all plugins that are installed
        yield

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.tell(report.nodeid or "collection", "error", str(report.longrepr))
        elif report.skipped:
            self.tell(report.nodeid, "skipped", str(report.longrepr))

    def pytest_collection_finish(self, session: Any) -> None:
        self._look(session.config)
        for item in session.items:
            self._bodies[item.nodeid] = body(item)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        before = raised(call)
        yield
        self._raised[item.nodeid, call.when] = max(before, raised(call), key=WORST.index)
        if call.when == "call":
            self._look_at(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.outcome not in WORST or (hasattr(report, "context") and not report.failed):
            return  # a rerun; a subtest, whose test is told of too
        state = self._state(report)
        if report.when == "call" or state != "passed":
            if report.when != "call" and state == "failed":
                state = "error"
            self.tell(report.nodeid, state, "" if state == "passed" else str(report.longrepr))

    def _state(self, report: Any) -> str:
        """What is reported, but nothing passes that raised something or is expected to fail."""
        if report.outcome != "passed":
            return str(report.outcome)
        if hasattr(report, "wasxfail"):
            return "skipped"
        truth = self._raised.get((report.nodeid, report.when))
        if truth is None and report.when == "call" and not self._controls:
            self.steers("reports of tests that were not seen to run")
        return truth or "passed"

    def _look_at(self, item: Any) -> None:
        known, now = self._bodies.get(item.nodeid), body(item)
        if known is not None and now is not known and not is_installed(now.co_filename):
            self.steers(f"{relative(now.co_filename)} replaces what a test does")

    def _look(self, config: Any) -> None:
        """Tell what of the tree steers: hooks, and functions of the test runner that were replaced."""
        for name in dir(config.hook):
            caller: Any = getattr(config.hook, name) if name.startswith("pytest_") else None
            if name in HARMLESS or not hasattr(caller, "get_hookimpls"):
                continue
            for impl in caller.get_hookimpls():
                place = code_file(impl.function)
                if not is_installed(place):
                    self.steers(f"{relative(place)}: {name} ({source_digest(impl.function)})")
        now = functions()
        for name, known in self._known.items():
            code = now.get(name)
            if code is not known and not (code and code.co_filename.endswith(OWN_PATCHES)):
                self.steers(f"something replaces {name}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: Any, exitstatus: int) -> None:
        self._look(session.config)
        if not self._controls and not self._works_for_another:
            for nodeid in self._bodies:
                if nodeid not in self._told:
                    self.tell(nodeid, "error", "it was found, and did not run")
        self._status = int(exitstatus)

    def pytest_unconfigure(self, config: Any) -> None:
        self._look(config)
        if not self._works_for_another:
            self.say(end=self._status)

    def pytest_configure(self, config: Any) -> None:
        self._config = config

    @property
    def _controls(self) -> bool:
        """Whether the tests run in other processes, of pytest-xdist, which tell of them too."""
        return self._config is not None and bool(self._config.pluginmanager.hasplugin("dsession"))


def raised(call: Any) -> str:
    """How a phase ended, by what it raised."""
    if call.excinfo is None:
        return "passed"
    skips = (pytest.skip.Exception, unittest.SkipTest)
    return "skipped" if isinstance(call.excinfo.value, skips) else "failed"


def body(item: Any) -> Any:
    """The code that a test runs; None where it has none of its own."""
    function = getattr(item, "obj", None)
    return getattr(getattr(function, "__func__", function), "__code__", None)


def functions() -> dict[str, types.CodeType]:
    """The code of every function of the test runner, by its name."""
    found: dict[str, types.CodeType] = {}
    for name, module in list(sys.modules.items()):
        if (name + ".").startswith(OBSERVED):
            for owner, things in namespaces(name, module):
                for key, thing in list(things.items()):
                    thing = getattr(thing, "__func__", thing)
                    if isinstance(thing, types.FunctionType):
                        found[f"{owner}.{key}"] = thing.__code__
    return found


def namespaces(name: str, module: Any) -> Iterator[tuple[str, Any]]:
    yield name, vars(module)
    for key, thing in list(vars(module).items()):
        if isinstance(thing, type) and thing.__module__ == name:
            yield f"{name}.{key}", vars(thing)


def code_file(function: Any) -> str:
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return str(code.co_filename) if code else f"<{type(function).__name__}>"


def source_digest(function: Any) -> str:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = repr(getattr(getattr(function, "__code__", None), "co_code", function))
    return hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()[:12]


def _installed() -> tuple[str, ...]:
    places = set(sysconfig.get_paths().values())
    places.update((sys.prefix, sys.base_prefix, os.path.dirname(os.path.abspath(__file__))))
    places.update(
        os.path.dirname(os.path.dirname(module.__file__)) for module in (pytest, unittest) if module.__file__
    )
    return tuple(os.path.realpath(place) + os.sep for place in places if place not in ("", "/"))


INSTALLED = _installed()


def is_installed(place: str) -> bool:
    return os.path.realpath(place).startswith(INSTALLED)


def relative(place: str) -> str:
    return os.path.relpath(place, HERE).replace(os.sep, "/") if os.path.isabs(place) else place


def short(text: str) -> str:
    if len(text) <= ID:
        return text
    return text[: ID - 17] + "…" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def clipped(text: str) -> str:
    return text if len(text) <= MESSAGE else text[: MESSAGE // 2] + "\n…\n" + text[-MESSAGE // 2 :]


def _place() -> str:
    """Where to tell; empty in a pytest that a test started, whose tests are none of the project's."""
    return "" if "PYTEST_CURRENT_TEST" in os.environ else os.environ.get(PIPE, "")


if _place():
    _witness = Witness(_place())

    def pytest_configure(config: Any) -> None:
        if not config.pluginmanager.is_registered(_witness):
            config.pluginmanager.register(_witness, "codeframe-witness")

    def pytest_addoption(parser: Any, pluginmanager: Any) -> None:
        if not pluginmanager.is_registered(_witness):
            pluginmanager.register(_witness, "codeframe-witness")
