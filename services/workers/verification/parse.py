"""Reading what test runners write: JUnit XML, and jest's JSON.

The report was written by code that nobody trusts: it is bounded, and anything unexpected is a
ReportError. A long one is read in pieces, so that the event loop stays free.
"""

import asyncio
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from services.workers.verification.report import TestCase, TestState

MOST_TESTS = 200_000
MOST_MESSAGES = 2 << 20
ID_LENGTH = 1000
MESSAGE_LENGTH = 4000
PIECE = 1 << 16

JEST_STATES = {
    "passed": TestState.PASSED,
    "failed": TestState.FAILED,
    "pending": TestState.SKIPPED,
    "skipped": TestState.SKIPPED,
    "todo": TestState.SKIPPED,
    "disabled": TestState.SKIPPED,
}


class ReportError(Exception):
    """A test report that cannot be used."""


async def parse(data: bytes, checkout: Path) -> tuple[TestCase, ...]:
    """The tests of a report, which may name some twice. Paths in ids are relative to `checkout`.

    Raises ReportError.
    """
    kind = data.lstrip()[:1]
    if kind == b"<":
        return bounded(await _junit(data), checkout)
    try:
        if b'"testResults"' in data[:PIECE] or b'"numTotalTests"' in data[:PIECE]:
            return bounded(_jest(json.loads(data)), checkout)
        raise ReportError("the test report is neither JUnit XML nor known JSON")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as problem:
        raise ReportError(f"the test report is neither JUnit XML nor known JSON: {problem}") from problem


def bounded(tests: Iterable[TestCase], checkout: Path) -> tuple[TestCase, ...]:
    """`tests` with ids and messages clipped, and no path of this machine in an id. Raises ReportError."""
    inside, left = f"{checkout}{os.sep}", MOST_MESSAGES
    bounded: list[TestCase] = []
    for test in tests:
        if len(bounded) == MOST_TESTS:
            raise ReportError(f"the test report names more than {MOST_TESTS} tests")
        message = test.message.strip()[: min(MESSAGE_LENGTH, left)]
        left -= len(message)
        bounded.append(TestCase(test.id.replace(inside, "")[:ID_LENGTH], test.state, message))
    return tuple(bounded)


async def _junit(data: bytes) -> list[TestCase]:
    target = _JUnit()
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        for start in range(0, len(data), PIECE):
            parser.feed(data[start : start + PIECE])
            await asyncio.sleep(0)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError) as problem:
        raise ReportError(f"the test report is not JUnit XML: {problem}") from problem
    return target.tests


class _JUnit:
    """Takes a JUnit report's elements as they come. Suites with a name in a suite are part of a test's id."""

    def __init__(self) -> None:
        self.tests: list[TestCase] = []
        self._suites: list[str] = []
        self._test: dict[str, str] | None = None
        self._state = TestState.PASSED
        self._message = ""
        self._takes_text = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        match tag:
            case "testsuite":
                self._suites.append(attributes.get("name", ""))
            case "testcase":
                self._test, self._state, self._message = attributes, TestState.PASSED, ""
            case "skipped" | "failure" | "error" if self._test is not None:
                self._enter(tag, attributes)

    def _enter(self, tag: str, attributes: dict[str, str]) -> None:
        is_first = self._state is TestState.PASSED
        if tag == "skipped":
            self._state = TestState.SKIPPED
        elif self._state is not TestState.SKIPPED:  # a test that node marks "todo" is skipped and may fail
            self._state = TestState.ERROR if tag == "error" else TestState.FAILED
        if is_first:
            self._message = attributes.get("message", "") + "\n"
            self._takes_text = True

    def data(self, text: str) -> None:
        if self._takes_text and len(self._message) < 2 * MESSAGE_LENGTH:
            self._message += text[:MESSAGE_LENGTH]

    def end(self, tag: str) -> None:
        match tag:
            case "testsuite" if self._suites:
                self._suites.pop()
            case "skipped" | "failure" | "error":
                self._takes_text = False
            case "testcase" if self._test is not None:
                self.tests.append(TestCase(self._id(self._test), self._state, self._message))
                self._test = None

    def close(self) -> None:
        pass

    def _id(self, test: dict[str, str]) -> str:
        name, file, owner = test.get("name", ""), test.get("file", ""), test.get("classname", "")
        if not file:
            if owner == "test":  # node's own JUnit reporter
                return " > ".join([*self._suites, name])
            return "::".join(filter(None, [owner, name]))
        module = file.removesuffix(".py").replace("/", ".")
        if not owner and name == module:  # a file that could not be read
            return file
        classes = owner.removeprefix(module).lstrip(".") if owner.startswith(module) else owner
        return "::".join([file, *filter(None, classes.split(".")), name])


def _jest(report: dict[str, Any]) -> Iterator[TestCase]:
    for file in report["testResults"]:
        tests = file.get("assertionResults") or []
        if not tests and file.get("status") == "failed":
            yield TestCase(str(file["name"]), TestState.ERROR, str(file.get("message", "")))
        for test in tests:
            names = [str(file["name"]), *map(str, test.get("ancestorTitles", ())), str(test["title"])]
            said = "\n".join(map(str, test.get("failureMessages") or ()))
            yield TestCase(" > ".join(names), JEST_STATES.get(test["status"], TestState.ERROR), said)
