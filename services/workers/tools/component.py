"""add_component: a component's file and its export in the folder's index, together."""

import os
import posixpath
import re

from services.workers.desk import Workspace
from services.workers.tools import text_file
from services.workers.tools.place import Place, resolve
from services.workers.tools.schema import STRING, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError

NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
EXTENSIONS = (".js", ".jsx", ".mjs", ".ts", ".tsx", ".vue", ".svelte")
INDEXES = ("index.ts", "index.tsx", "index.js", "index.jsx", "index.mjs")
TYPED = (".ts", ".tsx")
WHOLE_FILE = (".vue", ".svelte")  # the file is the component, exported as default
MAX_CHARACTERS = 256 * 1024


async def _add_component(workspace: Workspace, given: Input) -> str:
    name, content = given.text("name"), given.text("content")
    component, index = (resolve(workspace.root, path) for path in _targets(workspace, given))
    if not NAME.fullmatch(name):
        raise ToolError(f"name: {name!r} cannot be exported; give an identifier such as UserCard")
    if not component.name.endswith(EXTENSIONS):
        raise ToolError(f"{component.name}: a component's file ends in one of {', '.join(EXTENSIONS)}")
    if os.path.lexists(component.path):
        raise ToolError(f"{component.name}: is already there; use edit_file or write_file to change it")
    if index.path == component.path:
        raise ToolError(f"{index.name}: the index cannot be the component's own file")
    if len(content) > MAX_CHARACTERS:
        raise ToolError(f"{component.name}: is too long for a component; split it")
    listed = text_file.read(index) if os.path.lexists(index.path) else ""
    extended = _with_export(index, component, name, content, listed)
    # No await from the reading of the index to its writing, so no other export can come between.
    text_file.write(component, content)
    try:
        text_file.write(index, extended)
    except ToolError:
        text_file.delete(component)
        raise
    return f"created {component.name} and exported {name} from {index.name}"


def _targets(workspace: Workspace, given: Input) -> tuple[str, str]:
    """The component and its index: the one named, else one in its folder, else one to be made there."""
    folder, file = posixpath.split(given.text("path"))
    there = (name for name in INDEXES if (workspace.root / folder / name).is_file())
    default = next(there, "index.ts" if file.endswith(TYPED) else "index.js")
    return given.text("path"), given.text("index") or posixpath.join(folder, default)


def _with_export(index: Place, component: Place, name: str, content: str, listed: str) -> str:
    """The index's text with the component's export in it, once."""
    source = posixpath.relpath(component.name, posixpath.dirname(index.name) or ".")
    source = source if source.startswith(".") else f"./{source}"
    stem, extension = posixpath.splitext(source)
    if any(f"{quote}{way}{quote}" in listed for quote in "'\"" for way in (source, stem)):
        return listed
    if _exports(listed, name):
        raise ToolError(f"{index.name}: already exports {name}, of another file; choose another name")
    by_name = _exports(content, name)
    if not by_name and extension not in WHOLE_FILE and not re.search(r"\bexport\s+default\b", content):
        raise ToolError(f"content: exports neither {name} nor a default; add `export` to the component")
    bare = extension in TYPED or (extension in (".js", ".jsx") and _leaves_extensions_out(listed))
    export = f'export {{ {name if by_name else f"default as {name}"} }} from "{stem if bare else source}";\n'
    return listed + ("\n" if listed and not listed.endswith("\n") else "") + export


def _exports(text: str, name: str) -> bool:
    declared = rf"\bexport\s+(?:async\s+)?(?:function\*?|class|const|let|var)\s+{re.escape(name)}(?![\w$])"
    listed = rf"\bexport\s*{{[^{{}}]{{0,500}}(?<![\w$]){re.escape(name)}\s*[,}}]"
    return bool(re.search(declared, text) or re.search(listed, text))


def _leaves_extensions_out(listed: str) -> bool:
    """Whether the index names its own files without their extensions, as bundlers allow and Node does not."""
    sources = re.findall(r"""from\s+["'](\./[^"'\n]{0,500})["']""", listed)
    return bool(sources) and not any(posixpath.splitext(source)[1] in EXTENSIONS for source in sources)


ADD_COMPONENT = Tool(
    name="add_component",
    description=(
        "Add a component: create its file and export it from the index of its folder, once. "
        "A component that is already there is never overwritten."
    ),
    schema=object_of(
        {
            "name": described(STRING, "The component's name, as others import it, for example UserCard."),
            "path": described(STRING, "Its file, for example src/components/UserCard.jsx."),
            "content": described(STRING, "The file's whole content; it exports the component."),
            "index": described(STRING, "The index that exports it. Default: that of its folder."),
        },
        optional=("index",),
    ),
    targets=_targets,
    writes=True,
    run=_add_component,
)
