"""report_defect: a test fails because the code under test is wrong. The word alone counts for nothing."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from services.workers.desk import Workspace
from services.workers.tools.schema import STRING, STRINGS, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError

MAX_TESTS = 20
MAX_CHARACTERS = 4000


@runtime_checkable
class Tested(Protocol):
    """A workspace in which tests of the base's code are written."""

    async def report_defect(self, tests: Sequence[str], defect: str) -> str:
        """Check that these tests fail because of the base's code; why that could not be shown.

        The worktree is committed and pushed, and run on a fresh checkout, where its code must be the
        base's. Raises AttemptFailed (DEFECT_FOUND) where each of the tests ran there and failed, and
        nothing else did; or where no verdict can be had. Cancelled, it kills every process.
        """
        ...


async def _report_defect(workspace: Workspace, given: Input) -> str:
    if not isinstance(workspace, Tested):
        raise ToolError("no defect can be reported here")
    tests, defect = given.texts("tests"), given.text("defect").strip()
    if not tests or len(tests) > MAX_TESTS or not all(test.strip() for test in tests):
        raise ToolError(f"tests: name the failing tests, from 1 to {MAX_TESTS}")
    if not defect or len(defect) > MAX_CHARACTERS:
        raise ToolError(f"defect: say what is wrong, in at most {MAX_CHARACTERS} characters")
    raise ToolError(await workspace.report_defect([test.strip() for test in tests], defect))


REPORT_DEFECT = Tool(
    name="report_defect",
    description=(
        "Report a defect of the code under test that a test of yours shows. The tests are run on a fresh "
        "checkout: each that you name must run there and fail, all others must stay as they were. Then "
        "your task ends, with your work kept. Otherwise you are told what does not hold, and go on."
    ),
    schema=object_of(
        {
            "tests": described(
                STRINGS,
                "The failing tests, as the test runner names them, such as tests/test_cart.py::test_empty.",
            ),
            "defect": described(STRING, "What the code does, and what it should do, in a few sentences."),
        }
    ),
    targets=lambda _, given: (),
    run=_report_defect,
)
