"""Runs `go` or `cargo`; where it tests, each test is told to the pipe $CODEFRAME_WITNESS, as it ends.

It runs in whatever Python the project has (3.7 or newer), in a process of its own: the tests inherit neither
the pipe nor the variable that names it. It says JSON, a line each: `{"start": pid}`, `{"end": status}`, and
for a test `{"id": ..., "state": ..., "message": ...}`.

`go test` is made to tell JSON, and what people would read is printed from that. Stable libtest tells nothing
but text, so `cargo test` is read line by line, and its own counts are held against what was read: where they
differ, that is a test that could not be run. Documentation tests are called by what they document, less the
line that they stand at.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

PIPE = "CODEFRAME_WITNESS"
ID = 600  # characters
MESSAGE = 2500
KEPT = 20_000  # characters of what a test prints, until it ends

Told = Iterator["dict[str, Any]"]

STATES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}  # as libtest calls them
# Flags before the subcommand that take a value of their own.
VALUED = {"go": {"-C"}, "cargo": {"-C", "-Z", "--color", "--config", "--manifest-path"}}


class GoTests:
    """What `go test -json` says, as tests and as text for people."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._open: dict[tuple[str, str], str] = {}
        self._builds: dict[str, str] = {}
        self._red: set[str] = set()
        self.text = ""
        """What is to be printed; whoever prints it empties it."""

    def feed(self, line: str) -> Told:
        try:
            event = json.loads(line)
            action, package = event["Action"], str(event.get("Package", ""))
        except (ValueError, KeyError, TypeError):
            self.text += line
            return
        test, output = str(event.get("Test", "")), str(event.get("Output", ""))
        if action == "build-output":
            self._builds[event.get("ImportPath", "")] = (
                self._builds.get(event.get("ImportPath", ""), "") + output
            )
            self.text += output
        elif action == "run":
            self._open[package, test] = ""
        elif action == "output":
            self._open[package, test] = (self._open.get((package, test), "") + output)[:KEPT]
            if self._verbose or not test:
                self.text += output
        elif action in ("pass", "fail", "skip"):
            yield from self._ended(action, package, test, str(event.get("FailedBuild", "")))

    def _ended(self, action: str, package: str, test: str, failed_build: str) -> Told:
        said = self._open.pop((package, test), "")
        if test:
            if action == "fail":
                self._red.add(package)
                self.text += "" if self._verbose else said
            state = {"pass": "passed", "fail": "failed", "skip": "skipped"}[action]
            yield told(f"{package} > {test}", state, said if action != "pass" else "")
            return
        yield from self.unended(package)
        if action == "fail" and package not in self._red:
            yield told(package, "error", self._builds.get(failed_build, "") + said)

    def unended(self, package: str = "") -> Told:
        """Tests that began and came to no end: their process was ended."""
        for key in [key for key in self._open if key[1] and (not package or key[0] == package)]:
            self._red.add(key[0])
            yield told(" > ".join(key), "error", "it did not come to its end\n" + self._open.pop(key))


class CargoTests:
    """What `cargo test` prints, as tests."""

    RUNNING = re.compile(
        r"^\s+Running (?:unittests )?(\S+)(?: \((?:.*[/\\])?(.+?)(?:-[0-9a-f]{16})?(?:\.exe)?\))?$"
    )
    DOCUMENTS = re.compile(r"^\s+Doc-tests (\S+)$")
    COUNT = re.compile(r"^running (\d+) tests?$")
    TEST = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, .*)?$")
    RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored; (\d+) measured;")
    MESSAGE = re.compile(r"^---- (.+) stdout ----$")
    LINE = re.compile(r" \(line (\d+)\)( - compile(?: fail)?)?$")

    def __init__(self) -> None:
        self._binary = "tests"
        self._announced = -1
        self._found: list[tuple[str, str]] = []
        self._said: dict[str, str] = {}
        self._saying = ""
        self._in_failures = False
        self._names: dict[str, int] = {}
        self.red = False
        self.text = ""

    def feed(self, line: str) -> Told:
        self.text += line
        line = line.rstrip("\n")
        running = self.RUNNING.match(line) or self.DOCUMENTS.match(line)
        count, result = self.COUNT.match(line), self.RESULT.match(line)
        if running:
            yield from self.unended()
            name = running.groups()
            self._binary = f"{name[1] or ''} {name[0]}".strip() if len(name) > 1 else f"{name[0]} documents"
            self._names = {}
        elif count and not self._in_failures:
            yield from self.unended()
            self._announced, self._in_failures = int(count[1]), False
        elif result and self._announced >= 0:
            yield from self._result([int(each) for each in result.groups()])
        elif line == "failures:":
            self._in_failures, self._saying = True, ""
        elif self._in_failures:
            heading = self.MESSAGE.match(line)
            if heading:
                self._saying = heading[1]
            elif self._saying:
                self._said[self._saying] = (self._said.get(self._saying, "") + line + "\n")[:KEPT]
        elif self._announced >= 0:
            test = self.TEST.match(line)
            if test:
                self._found.append((test[1], STATES[test[2]]))

    def _result(self, counts: list[int]) -> Told:
        passed, failed, ignored, measured = counts
        states = [state for _, state in self._found]
        read = [states.count(state) for state in ("passed", "failed", "skipped")]
        called = self._called()
        for name, state in self._found:
            self.red = self.red or state == "failed"
            yield told(f"{self._binary} > {called[name]}", state, self._said.get(name, ""))
        if read != [passed, failed, ignored]:
            counted = f"{passed} passed, {failed} failed, {ignored} ignored, {measured} measured"
            yield self._error(f"its result says {counted}; in its output {len(states)} tests were found")
        self._begin()

    def _called(self) -> dict[str, str]:
        """Names of the tests that were found: of a documentation test less its line, and numbered by it.

        They run at the same time, and are told in any order.
        """
        called = {name: name for name, _ in self._found}
        documents = [(match, name) for name in called for match in [self.LINE.search(name)] if match]
        for match, name in sorted(documents, key=lambda one: int(one[0][1])):
            short = name[: match.start()] + (match[2] or "")
            self._names[short] = self._names.get(short, 0) + 1
            called[name] = short if self._names[short] == 1 else f"{short} #{self._names[short]}"
        return called

    def unended(self) -> Told:
        """A binary that announced tests and gave no result: it was ended."""
        if self._announced >= 0:
            yield self._error("it did not come to its end")
        self._begin()

    def _error(self, why: str) -> dict[str, Any]:
        self.red = True
        return told(self._binary, "error", why)

    def _begin(self) -> None:
        self._announced, self._in_failures, self._saying = -1, False, ""
        self._found, self._said = [], {}


def told(name: str, state: str, message: str = "") -> dict[str, Any]:
    message = message.strip()
    if len(message) > MESSAGE:
        message = f"{message[: MESSAGE // 2]}\n…\n{message[-MESSAGE // 2 :]}"
    return {"id": name[:ID], "state": state, "message": message}


def place_of_test(tool: str, arguments: list[str]) -> int:
    """Where the subcommand `test` stands in the arguments; -1 where another is called."""
    names = {"go": ("test",), "cargo": ("test", "t")}[tool]
    skip = False
    for place, word in enumerate(arguments):
        if skip:
            skip = False
        elif word in names:
            return place
        elif word.startswith(("-", "+")):
            skip = word in VALUED[tool]
        else:
            return -1
    return -1


def prepared(tool: str, arguments: list[str], place: int) -> list[str]:
    """The arguments with which the tool tells all that is needed."""
    flag = {"go": "-json", "cargo": "--no-fail-fast"}[tool]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return arguments if flag in own else [*arguments[: place + 1], flag, *arguments[place + 1 :]]


def real(tool: str) -> str:
    """The tool that this stands before."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = os.path.join(folder, tool)
        if folder and os.path.realpath(folder) != os.path.realpath(here) and os.access(program, os.X_OK):
            return program
    sys.exit(f"{tool}: not found: install it where the worker runs")


def run(tool: str, program: str, arguments: list[str], place: int, pipe: int) -> int:
    """Run the tool, whose subcommand `test` stands at `place`; its exit code."""

    def say(**line: Any) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
        if len(data) > 4000:  # a pipe takes less than 4096 bytes in one piece
            data = json.dumps(dict(line, message="")).encode()
        os.write(pipe, data + b"\n")

    say(start=os.getpid())
    environment = {name: value for name, value in os.environ.items() if name != PIPE}
    environment.update(CARGO_TERM_COLOR="never", CARGO_TERM_QUIET="false", CARGO_TERM_PROGRESS_WHEN="never")
    reader = GoTests({"-v", "-json"}.intersection(arguments) != set()) if tool == "go" else CargoTests()
    errors = None if tool == "go" else subprocess.STDOUT
    words = prepared(tool, arguments, place)
    child = subprocess.Popen([program, *words], stdout=subprocess.PIPE, stderr=errors, env=environment)
    assert child.stdout is not None
    red = False
    with child.stdout:
        for data in child.stdout:
            for line in reader.feed(data.decode("utf-8", "replace")):
                red = red or line["state"] in ("failed", "error")
                say(**line)
            sys.stdout.write(reader.text)
            sys.stdout.flush()
            reader.text = ""
    status = child.wait()
    for line in reader.unended():
        red = True
        say(**line)
    if status and not red:  # such as code that does not compile
        say(**told(f"{tool} test", "error", f"it ended with exit code {status}; its output says why"))
    say(end=status)
    return status if status >= 0 else 128 - status


def main() -> None:
    tool, *arguments = sys.argv[1:]
    program, pipe, place = real(tool), os.environ.get(PIPE, ""), place_of_test(tool, arguments)
    if not pipe or place < 0:
        os.execv(program, [program, *arguments])
    descriptor = os.open(pipe, os.O_WRONLY)
    sys.exit(run(tool, program, arguments, place, descriptor))


if __name__ == "__main__":
    main()
