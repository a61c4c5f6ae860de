"""Tools that look at the workspace: list_files, read_file, grep."""

import os

from services.workers.desk import Workspace
from services.workers.tools import text_file
from services.workers.tools.clip import clip, line
from services.workers.tools.place import resolve
from services.workers.tools.schema import INTEGER, STRING, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError, named

MAX_LISTED = 1000
MAX_LINES = 2000
MAX_MATCHES = 300
MAX_LINE = 500


async def _list_files(workspace: Workspace, given: Input) -> str:
    folder = resolve(workspace.root, given.text("path", "."))
    if not folder.path.is_dir():
        raise ToolError(f"{folder.name}: there is no such folder")
    pathspec = ":(literal)" + folder.name if folder.name != "." else ":/"
    listing = await workspace.git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", pathspec
    )
    if listing.exit_code != 0:
        raise ToolError(f"git could not list the files: {line(listing.output)}")
    names = sorted(filter(None, listing.output.split("\0")))
    there = [name for name in names[:MAX_LISTED] if os.path.lexists(workspace.root / name)]
    if len(names) > MAX_LISTED or listing.truncated:
        there.append("[... more than fit here; list a folder, or use grep ...]")
    return "\n".join(there) or "(no files)"


LIST_FILES = Tool(
    name="list_files",
    description=(
        "List the files of the workspace, or of one of its folders, with all below it. "
        "Files that git ignores are not listed."
    ),
    schema=object_of(
        {"path": described(STRING, "A folder, relative to the workspace's root. Default: the root.")},
        optional=("path",),
    ),
    targets=named("path"),
    run=_list_files,
)


async def _read_file(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path"))
    lines = text_file.read(place).splitlines()
    start = given.number("start_line") or 1
    end = given.number("end_line") or len(lines)
    if start < 1 or end < start - 1 or (start > len(lines) and start != 1):
        raise ToolError(f"{place.name}: has {len(lines)} lines; {start} to {end} is no range of them")
    end = min(end, len(lines), start + MAX_LINES - 1)
    text = "\n".join(f"{number}\t{lines[number - 1]}" for number in range(start, end + 1))
    if (start, end) != (1, len(lines)):
        text += f"\n[lines {start} to {end} of {len(lines)}]"
    return clip(text, 100_000) or "(an empty file)"


READ_FILE = Tool(
    name="read_file",
    description=(
        "Read a text file. Each line comes with its number and a tab before it, which are not part of the "
        f"file. At most {MAX_LINES} lines at once: give a range to read on."
    ),
    schema=object_of(
        {
            "path": described(STRING, "The file, relative to the workspace's root."),
            "start_line": described(INTEGER, "The first line to read, from 1. Default: 1."),
            "end_line": described(INTEGER, "The last line to read. Default: the file's last."),
        },
        optional=("start_line", "end_line"),
    ),
    targets=named("path"),
    run=_read_file,
)


async def _grep(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path", "."))
    pattern = given.text("pattern")
    if not pattern or "\n" in pattern:
        raise ToolError("pattern: must be one line, and not empty")
    pathspec = ":(literal)" + place.name if place.name != "." else ":/"
    found = await workspace.git(
        "grep", "--line-number", "--extended-regexp", "-I", "--untracked", "--no-color", "--no-textconv",
        "-e", pattern, "--", pathspec,
    )  # fmt: skip
    if found.exit_code == 1:
        return "(no match)"
    if found.exit_code != 0:
        raise ToolError(f"pattern {pattern!r}: {line(found.output)}")
    matches = found.output.splitlines()
    shown = [match[:MAX_LINE] for match in matches[:MAX_MATCHES]]
    if len(matches) > MAX_MATCHES or found.truncated:
        shown.append(f"[... only the first {MAX_MATCHES} matching lines; narrow the pattern or the path ...]")
    return "\n".join(shown)


GREP = Tool(
    name="grep",
    description=(
        "Search the workspace's text files, except those that git ignores, for lines that match a POSIX "
        "extended regular expression. Answers with path:line number:line."
    ),
    schema=object_of(
        {
            "pattern": described(STRING, "The expression, for example 'def (load|save)_'."),
            "path": described(STRING, "A file or folder to search in. Default: the whole workspace."),
        },
        optional=("path",),
    ),
    targets=named("path"),
    run=_grep,
)
