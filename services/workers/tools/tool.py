"""A tool: what the model is told of it, and what it does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.workers.desk import Workspace
from services.workers.model.conversation import Json, ToolSpec
from services.workers.tools.schema import Input


class ToolError(Exception):
    """A tool could not do as asked, and wrote nothing. The model reads the message, and may do better."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `run` returns a text for the model or raises ToolError.

    `targets` tells the paths that a call is about, and `writes` whether it changes the files there: both are
    checked before `run` is called.
    """

    name: str
    description: str
    schema: Json
    run: Callable[[Workspace, Input], Awaitable[str]]
    targets: Callable[[Workspace, Input], tuple[str, ...]]
    writes: bool = False

    @property
    def spec(self) -> ToolSpec:
        """What the model is told."""
        return ToolSpec(self.name, self.description, self.schema)


def named(input_name: str) -> Callable[[Workspace, Input], tuple[str, ...]]:
    """Return the `targets` of a tool one of whose inputs is a path, or a list of paths."""
    return lambda _, given: given.texts(input_name)
