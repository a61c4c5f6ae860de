"""Tests of Rust that stand in the same file as the code under test. Pure, and no parser: by its tokens."""

import re
from collections.abc import Iterator

_TEXT = (
    r'//[^\n]*|/\*.*?\*/|r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"' + r"|'(?:\\.[^'\n]*|[^'\\\n])'"
)
_ATTRIBUTE = re.compile(r"#\[\s*(?:[\w:]+::)?(?:rs)?test(?:_case)?\b")  # also #[tokio::test], #[rstest]
_PIECES = re.compile(rf"(?P<text>{_TEXT})|(?P<test>{_ATTRIBUTE.pattern})|(?P<brace>[{{}}])", re.DOTALL)
_NAME = re.compile(r"\bfn\s+(\w+)")


def holds_tests(path: str) -> bool:
    """Whether a file of the code may hold tests, too."""
    return path.endswith(".rs")


def lost_tests(before: str, after: str) -> list[str]:
    """The names of tests of a Rust file that do not stand in another version of it, word for word.

    Spaces make no difference.
    """
    left = {"".join(text.split()) for _, text in _tests(after)}
    return [name for name, text in _tests(before) if "".join(text.split()) not in left]


def _tests(source: str) -> Iterator[tuple[str, str]]:
    """Each test's name, and its text from its attribute to its last brace."""
    start, depth = -1, 0
    for match in _PIECES.finditer(source):
        if match["test"] and start < 0:
            start, depth = match.start(), 0
        elif match["brace"] == "{" and start >= 0:
            depth += 1
        elif match["brace"] == "}" and start >= 0:
            depth -= 1
            if depth <= 0:
                text = source[start : match.end()]
                name = _NAME.search(text)
                yield name[1] if name else "?", text
                start = -1
