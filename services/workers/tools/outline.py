"""outline: the functions and classes of a source file, for whoever tests it."""

import ast
import re
from collections.abc import Iterator

from services.workers.desk import Workspace
from services.workers.tools import text_file
from services.workers.tools.clip import clip
from services.workers.tools.place import Place, resolve
from services.workers.tools.schema import STRING, Input, described, object_of
from services.workers.tools.tool import Tool, ToolError, named

SCRIPTS = (".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".vue", ".svelte")
SCRIPT_DEFINITION = re.compile(
    r"(?:export (?:default )?)?(?:"
    r"(?:async )?function\b ?\*? ?\w* ?\([^)]*\)?"
    r"|(?:abstract )?class \w+"
    r"|(?:const|let|var) \w+ ?= ?(?:async ?)?(?:function\b|\([^)]*\) ?=>|\w+ ?=>)"
    r")"
)
MAX_CHARACTERS = 100_000  # what is parsed in a fraction of a second


async def _outline(workspace: Workspace, given: Input) -> str:
    place = resolve(workspace.root, given.text("path"))
    text = text_file.read(place)
    if len(text) > MAX_CHARACTERS:
        raise ToolError(f"{place.name}: is too long to outline; use grep")
    if place.name.endswith((".py", ".pyi")):
        entries = _python(place, text)
    elif place.name.endswith(SCRIPTS):
        entries = _script(text)
    else:
        raise ToolError(f"{place.name}: only Python and JavaScript or TypeScript are outlined; use read_file")
    return clip("\n".join(entries)) or "(no functions or classes)"


def _python(place: Place, text: str) -> list[str]:
    try:
        return list(_definitions(ast.parse(text), ""))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(f"{place.name}: is not valid Python: {error}") from error


def _script(text: str) -> list[str]:
    """Find definitions line by line, spaces folded and length bounded, so that no line can make it slow."""
    folded = (" ".join(line[:1000].split())[:300] for line in text.splitlines())
    found = ((number, SCRIPT_DEFINITION.match(line)) for number, line in enumerate(folded, 1))
    return [f"{number}\t{match.group()}" for number, match in found if match]


def _definitions(parent: ast.AST, indent: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(parent):
        match node:
            case ast.FunctionDef():
                yield f"{node.lineno}\t{indent}def {_signature(node)}"
            case ast.AsyncFunctionDef():
                yield f"{node.lineno}\t{indent}async def {_signature(node)}"
            case ast.ClassDef():
                bases = ", ".join(ast.unparse(base) for base in node.bases)
                yield f"{node.lineno}\t{indent}class {node.name}" + (f"({bases})" if bases else "")
                yield from _definitions(node, indent + "    ")
            case ast.If() | ast.Try() | ast.With():
                yield from _definitions(node, indent)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){returns}"


OUTLINE = Tool(
    name="outline",
    description=(
        "List the functions and classes of a Python, JavaScript or TypeScript file, sync and async, "
        "each with its line number: what there is to test."
    ),
    schema=object_of({"path": described(STRING, "The file, relative to the workspace's root.")}),
    targets=named("path"),
    run=_outline,
)
