"""run_tests: the project's own tests, on the workspace as it is."""

from services.workers.desk import Workspace
from services.workers.tools.clip import clip
from services.workers.tools.place import resolve
from services.workers.tools.schema import STRINGS, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError, named

MAX_PATHS = 50


async def _run_tests(workspace: Workspace, given: Input) -> str:
    paths = given.texts("paths")
    if len(paths) > MAX_PATHS:
        raise ToolError(f"paths: at most {MAX_PATHS}; leave them out to run all tests")
    places = [resolve(workspace.root, path) for path in paths]
    for place in places:
        if not place.path.exists():
            raise ToolError(f"{place.name}: there is no such file or folder")
    return clip(await workspace.run_tests([place.name for place in places]))


RUN_TESTS = Tool(
    name="run_tests",
    description=(
        "Run the project's tests on the workspace as it is, without network, and read what they print. "
        "Files that the run writes are not kept. "
        "The work is verified again when you end your turn, so use this while you work."
    ),
    schema=object_of(
        {"paths": described(STRINGS, "Test files or folders to narrow the run to. Default: all tests.")},
        optional=("paths",),
    ),
    targets=named("paths"),
    run=_run_tests,
)
