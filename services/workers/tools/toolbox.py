"""A role's tools in one workspace: what the model is told of them, and its calls, checked and done."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from services.workers.desk import Workspace
from services.workers.model.conversation import ToolCall, ToolResult, ToolSpec
from services.workers.tools.component import ADD_COMPONENT
from services.workers.tools.defect import REPORT_DEFECT
from services.workers.tools.outline import OUTLINE
from services.workers.tools.place import resolve
from services.workers.tools.proposing import PROPOSE_PLAN
from services.workers.tools.reading import GREP, LIST_FILES, READ_FILE
from services.workers.tools.schema import Input, faults
from services.workers.tools.testing import RUN_TESTS
from services.workers.tools.tool import Tool, ToolError
from services.workers.tools.writing import CREATE_FILE, DELETE_FILE, EDIT_FILE, WRITE_FILE

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        LIST_FILES,
        READ_FILE,
        GREP,
        CREATE_FILE,
        WRITE_FILE,
        EDIT_FILE,
        DELETE_FILE,
        RUN_TESTS,
        ADD_COMPONENT,
        OUTLINE,
        PROPOSE_PLAN,
        REPORT_DEFECT,
    )
}
MAX_CALLS = 50  # in one turn
NOT_DONE = "not done, because another tool call of this turn was refused; nothing was written"


@lru_cache(maxsize=32)
def _specs(names: tuple[str, ...]) -> tuple[ToolSpec, ...]:
    return tuple(TOOLS[name].spec for name in names)


class WriteScope(Protocol):
    """What may be written."""

    def refusal(self, path: str) -> str | None:
        """Say why the file must not be written, created or deleted; None where it may."""
        ...


@dataclass(frozen=True, slots=True)
class _Checked:
    call: ToolCall
    tool: Tool
    given: Input


class Toolbox:
    """Some tools, in one workspace, within one write scope."""

    def __init__(self, names: Sequence[str], workspace: Workspace, scope: WriteScope) -> None:
        self._tools = {name: TOOLS[name] for name in names}
        self._workspace = workspace
        self._scope = scope
        self._one_at_a_time = asyncio.Lock()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told, always in the same order."""
        return _specs(tuple(self._tools))

    async def run(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """Do the calls of one turn, in their order, and return a result for each.

        All are checked before any is done: where one is refused (an unknown tool, an input that does not fit,
        a path or a write that is not allowed), none is. Other errors end only their own call.
        """
        refusals: dict[str, str] = {}
        checked: list[_Checked] = []
        for call in calls:
            try:
                checked.append(self._check(call))
            except ToolError as error:
                refusals[call.id] = str(error)
        if len(calls) > MAX_CALLS:
            refusals = {call.id: f"over {MAX_CALLS} tool calls in one turn; give fewer" for call in calls}
        if refusals:
            return tuple(
                ToolResult(call.id, refusals.get(call.id, NOT_DONE), is_error=True) for call in calls
            )
        async with self._one_at_a_time:
            return tuple([await self._do(one) for one in checked])

    def _check(self, call: ToolCall) -> _Checked:
        tool = self._tools.get(call.name)
        if tool is None:
            raise ToolError(f"there is no tool {call.name!r}; there are: {', '.join(self._tools)}")
        if found := faults(call.input, tool.schema):
            raise ToolError("; ".join(found[:10]))
        given = Input(call.input)
        for target in tool.targets(self._workspace, given):
            place = resolve(self._workspace.root, target)
            if tool.writes and (refusal := self._scope.refusal(place.name)):
                raise ToolError(refusal)
        return _Checked(call, tool, given)

    async def _do(self, checked: _Checked) -> ToolResult:
        try:
            self._check(checked.call)  # again: a call before this one may have changed where a link leads
            return ToolResult(checked.call.id, await checked.tool.run(self._workspace, checked.given))
        except ToolError as error:
            return ToolResult(checked.call.id, str(error), is_error=True)
