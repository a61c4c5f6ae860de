"""Places in a workspace: where a path leads, links followed, or why it is refused."""

import os
from dataclasses import dataclass
from pathlib import Path

from services.workers.tools.tool import ToolError


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside the workspace. `name` is relative to its root, with slashes; "." is the root itself."""

    path: Path
    name: str


def resolve(root: Path, text: str) -> Place:
    """Return where `text` leads, all links followed, whether or not anything is there.

    Raises ToolError where that is outside the workspace or git's own.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ToolError(f"{text!r}: a path must not hold control characters")
    try:
        path = Path(os.path.realpath(root / text))
    except OSError as error:
        raise ToolError(f"{text}: {error.strerror}") from error
    if not path.is_relative_to(root):
        raise ToolError(f"{text}: is outside the workspace; give a path relative to its root")
    name = path.relative_to(root).as_posix()
    if any(part.casefold() == ".git" for part in name.split("/")):
        raise ToolError(f"{text}: git's own files are not yours to read or write")
    return Place(path, name)
