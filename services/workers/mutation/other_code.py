"""Mutants of JavaScript, TypeScript, Go and Rust, by their tokens.

No parser: comments and texts are passed over, and operators that stand free are replaced. What a compiler
or a loader then refuses makes no test fail by itself, so it proves nothing and costs only its try.
"""

import re
from bisect import bisect_right

from services.workers.mutation.mutant import Kind, Mutant

SCRIPTS = (".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".vue", ".svelte")
GO, RUST = ".go", ".rs"

_COMMENT = r"//[^\n]*|/\*.*?\*/"
_DOUBLE = r'"(?:\\.|[^"\\\n])*"'
_TEXTS = {
    GO: rf"{_COMMENT}|{_DOUBLE}|`[^`]*`|'(?:\\.|[^'\\\n])+'",
    RUST: rf'{_COMMENT}|"(?:\\.|[^"\\])*"|' + r"'(?:\\.[^'\n]*|[^'\\\n])'",
}
_SCRIPT_TEXTS = rf"{_COMMENT}|{_DOUBLE}|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
_OPERATORS = {
    "===": "!==",
    "!==": "===",
    "==": "!=",
    "!=": "==",
    "<=": ">",
    ">=": "<",
    "<": ">=",
    ">": "<=",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "%": "*",
    "+=": "-=",
    "-=": "+=",
    "true": "false",
    "false": "true",
}
_FREE = (
    r"(?P<operator>(?<=[\s\w)\]])(?:===|!==|==|!=|<=|>=|&&|\|\|)(?=[\s\w(\[!'\"-])"
    r"|(?<=[\w)\]] )(?:[-+]=|[-+*/%<>])(?= [\w(\[!'\"-])|\b(?:true|false)\b)"
    r"|(?P<number>(?<![\w.])\d{1,9}(?![\w.]))"
)
_NO_RESULT = r"|(?P<result>(?P<value>(?!)))"
_RESULT = r"|(?P<result>\breturn[ \t]+(?=[^\s;(])(?P<value>[^;\n{}]+)(?=;|\n|\}))"
_DEFINITION = re.compile(
    rb"\b(?:function\s*\*?|func(?:\s*\([^)\n]*\))?|fn|class|impl|struct|type)\s+([A-Za-z_$][\w$]*)"
    rb"|\b(?:const|let|var)\s+([A-Za-z_$][\w$]*)\s*=\s*(?:async\b\s*)?(?:function\b|\(|\w+\s*=>)"
)


def mutants_by_token(path: str, source: bytes) -> list[Mutant]:
    """The mutants of a file, by what its name ends in; none where it is not UTF-8."""
    try:
        text = source.decode()
    except UnicodeDecodeError:
        return []
    ending = path[path.rfind(".") :]
    passed_over = _TEXTS.get(ending, _SCRIPT_TEXTS)
    free = _FREE + (_RESULT if ending in SCRIPTS else _NO_RESULT)
    pattern = re.compile(rf"(?P<text>{passed_over})|{free}", re.DOTALL)
    definitions = [(match.start(), (match[1] or match[2]).decode()) for match in _DEFINITION.finditer(source)]
    starts = [start for start, _ in definitions]
    found: list[Mutant] = []
    at, line, counted, in_bytes = 0, 1, 0, 0
    while match := pattern.search(text, at):
        at = match.end()
        if match["text"] is not None:
            continue
        group, old, new, kind = _change(match)
        start = match.start(group)
        if kind is Kind.RESULT:
            at = start  # operators in it are changed by themselves, too
        if new:
            line += text.count("\n", counted, start)
            in_bytes += len(text[counted:start].encode())
            counted = start
            index = bisect_right(starts, in_bytes)
            owner = definitions[index - 1][1:] if index else ()
            end = in_bytes + len(old.encode())
            found.append(Mutant(path, line, in_bytes, end, old, new, kind, owner))
    return found


def _change(match: re.Match[str]) -> tuple[str, str, str, Kind]:
    """The group of a match that is replaced, its text, what replaces it (nothing: it stays), and the kind."""
    if match["number"] is not None:
        return "number", match["number"], str(int(match["number"]) + 1), Kind.NUMBER
    if match["operator"] is not None:
        return "operator", match["operator"], _OPERATORS[match["operator"]], Kind.OPERATOR
    value = match["value"].rstrip()
    balanced = all(value.count(pair[0]) == value.count(pair[1]) for pair in ("()", "[]"))
    return "value", value, "null" if balanced and value != "null" else "", Kind.RESULT
