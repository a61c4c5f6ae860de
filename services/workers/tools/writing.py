"""Tools that change files: create_file, write_file, edit_file, delete_file."""

import os
import re

from services.workers.desk import Workspace
from services.workers.tools import text_file
from services.workers.tools.place import resolve
from services.workers.tools.schema import STRING, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError, named

PATH = described(STRING, "The file, relative to the workspace's root.")
MAX_COMPARED_LINES = 5000
MAX_MATCHES = 20
ALIKE = 0.3  # of the words of two lines


async def _create_file(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path"))
    if os.path.lexists(place.path):
        raise ToolError(f"{place.name}: is already there; use write_file or edit_file to change it")
    text_file.write(place, given.text("content"))
    return f"created {place.name}"


CREATE_FILE = Tool(
    name="create_file",
    description="Create a text file that is not there yet. Its folders are made.",
    schema=object_of({"path": PATH, "content": described(STRING, "The file's whole content.")}),
    targets=named("path"),
    writes=True,
    run=_create_file,
)


async def _write_file(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path"))
    if not os.path.lexists(place.path):
        raise ToolError(f"{place.name}: there is no such file; use create_file to make it")
    text_file.write(place, given.text("content"))
    return f"wrote {place.name}"


WRITE_FILE = Tool(
    name="write_file",
    description="Replace the whole content of a file that is there. For a small change, use edit_file.",
    schema=object_of({"path": PATH, "content": described(STRING, "The file's whole new content.")}),
    targets=named("path"),
    writes=True,
    run=_write_file,
)


async def _edit_file(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path"))
    text = text_file.read(place)
    old, new = given.text("old_text"), given.text("new_text")
    if not old:
        raise ToolError("old_text: must not be empty")
    if "\r\n" in text and "\r\n" not in old:
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    if old == new:
        raise ToolError("new_text: is the same as old_text; nothing would change")
    starts = _matches(text, old)
    if not starts:
        raise ToolError(f"{place.name}: old_text is not in it.{_nearest(text, old)}")
    if len(starts) > 1:
        lines = ", ".join(str(text.count("\n", 0, start) + 1) for start in starts)
        times = f"{len(starts)} times" if len(starts) < MAX_MATCHES else f"{MAX_MATCHES} times or more"
        raise ToolError(
            f"{place.name}: old_text is in it {times}, at lines {lines}; "
            "give more of the lines around the one you mean"
        )
    text_file.write(place, text[: starts[0]] + new + text[starts[0] + len(old) :])
    return f"edited {place.name} at line {text.count(chr(10), 0, starts[0]) + 1}"


def _matches(text: str, old: str) -> list[int]:
    """Return where `old` starts, overlaps included, the first few times."""
    found: list[int] = []
    start = text.find(old)
    while start >= 0 and len(found) < MAX_MATCHES:
        found.append(start)
        start = text.find(old, start + 1)
    return found


def _nearest(text: str, old: str) -> str:
    """Show the lines that share most words with the first line of `old`, with their numbers."""
    wanted = _words(next((line for line in old.splitlines() if line.strip()), ""))
    lines = text.splitlines()[:MAX_COMPARED_LINES]
    likeness = ((_likeness(wanted, _words(line)), -number) for number, line in enumerate(lines, 1))
    nearest = sorted((alike for alike in likeness if alike[0] >= ALIKE), reverse=True)[:3]
    if not nearest:
        return " No line is like its first; read the file again."
    shown = "\n".join(f"{-number}\t{lines[-number - 1][:500]}" for _, number in nearest)
    return f" The nearest lines (number, tab, line), where spaces count:\n{shown}"


def _words(line: str) -> set[str]:
    return set(re.findall(r"\w+", line[:500]))


def _likeness(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


EDIT_FILE = Tool(
    name="edit_file",
    description=(
        "Replace a piece of a file's text that occurs exactly once in it. Give old_text exactly as it is in "
        "the file, spaces and line breaks included, without line numbers."
    ),
    schema=object_of(
        {
            "path": PATH,
            "old_text": described(STRING, "The text to replace, with as much around it as makes it unique."),
            "new_text": described(STRING, "The text to put in its place."),
        }
    ),
    targets=named("path"),
    writes=True,
    run=_edit_file,
)


async def _delete_file(workspace: Workspace, given: Input) -> str:
    if (workspace.root / given.text("path")).is_symlink():
        raise ToolError(f"{given.text('path')}: is a symbolic link; only files are deleted")
    place = resolve(workspace.root, given.text("path"))
    text_file.delete(place)
    return f"deleted {place.name}"


DELETE_FILE = Tool(
    name="delete_file",
    description="Delete a file.",
    schema=object_of({"path": PATH}),
    targets=named("path"),
    writes=True,
    run=_delete_file,
)
