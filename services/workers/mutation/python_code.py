"""Mutants of Python, by its syntax tree: inside functions, so that importing a module stays as it was."""

import ast
import re
from bisect import bisect_right
from collections.abc import Sequence

from services.workers.mutation.mutant import Kind, Mutant

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.Pow: ("**", "*"),
}


def python_mutants(path: str, source: bytes) -> list[Mutant]:
    """The mutants of a file; none where it is not Python in UTF-8."""
    try:
        source.decode()
        tree = ast.parse(source)
        finder = _Finder(path, source)
        finder.visit(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return finder.found


def is_python(source: bytes) -> bool:
    """Whether a mutant is still Python: an operator is sought by its text, and a comment may hold it, too."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self._owner: tuple[str, ...] = ()
        self._in_function = False

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Its body alone: not its decorators, defaults and annotations, which run on import."""
        self._enter(node.name, node.body, in_function=True)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node.name, node.body, in_function=False)

    def _enter(self, name: str, body: Sequence[ast.stmt], *, in_function: bool) -> None:
        outer = self._owner, self._in_function
        self._owner, self._in_function = (*self._owner, name), in_function
        for statement in body:
            if not _is_text(statement):  # a docstring
                self.visit(statement)
        self._owner, self._in_function = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Nothing: places inside an f-string are not told truly by every Python."""

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not _is_none(node.value):
            self._change(node.value, "None", Kind.RESULT)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._change(node, "pass", Kind.RESULT)

    def visit_If(self, node: ast.If) -> None:
        self._turn_round(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._turn_round(node.test)
        self.generic_visit(node)

    def _turn_round(self, condition: ast.expr) -> None:
        start, end = self._span(condition)
        text = self._source[start:end].decode()
        self._change(condition, f"(not ({text}))", Kind.CONDITION)

    def visit_Compare(self, node: ast.Compare) -> None:
        old, new = _COMPARISONS[type(node.ops[0])]
        pattern = old if "\\" in old else re.escape(old)
        pattern = rf"\b{pattern}\b" if new[0].isalpha() else pattern
        self._between(node.left, node.comparators[0], pattern, new)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self._between(node.values[0], node.values[1], rf"\b{old}\b", new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in _ARITHMETIC and not _is_text(node.left) and not _is_text(node.right):
            old, new = _ARITHMETIC[type(node.op)]
            self._between(node.left, node.right, re.escape(old), new)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in _ARITHMETIC and not _is_text(node.value):
            old, new = _ARITHMETIC[type(node.op)]
            self._between(node.target, node.value, re.escape(old) + "=", f"{new}=")
        self.visit(node.value)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, end = self._span(node.operand)
            self._change(node, f"({self._source[start:end].decode()})", Kind.CONDITION)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call | ast.Await):
            self._change(node.value, "None", Kind.CALL)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        match node.value:
            case bool():
                self._change(node, str(not node.value), Kind.OPERATOR)
            case int():
                self._change(node, str(node.value + 1), Kind.NUMBER)
            case float():
                self._change(node, repr(node.value + 1), Kind.NUMBER)
            case str() if node.value:
                self._change(node, repr(f"{node.value} changed"), Kind.TEXT)

    def _between(self, left: ast.expr, right: ast.expr, pattern: str, new: str) -> None:
        """Replace the operator between two expressions; brackets and comments may stand there, too."""
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(pattern.encode(), self._source[start:end])
        if found:
            self._add(start + found.start(), start + found.end(), new, Kind.OPERATOR)

    def _change(self, node: ast.AST, new: str, kind: Kind) -> None:
        self._add(*self._span(node), new, kind)

    def _add(self, start: int, end: int, new: str, kind: Kind) -> None:
        if self._in_function:
            line = bisect_right(self._lines, start)
            before = self._source[start:end].decode(errors="replace")
            self.found.append(Mutant(self._path, line, start, end, before, new, kind, self._owner))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset


def _is_text(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else node
    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str | bytes)
    return is_text or isinstance(value, ast.JoinedStr)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
