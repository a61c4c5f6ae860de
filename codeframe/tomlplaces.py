"""Where each key and each entry of a list stands in a TOML text, which `tomllib` does not tell."""

import re
import tomllib

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1."""

_GAP = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_SCALAR = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]+"
    r"|[^\s,\]}#]+",
    re.DOTALL,
)


def places(text: str) -> dict[Path, Place]:
    """Where each key and each entry of a list stands in a text that is valid TOML."""
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.scan()
    return scanner.found


def place_of(text: str, at: int) -> Place:
    """The place of a character."""
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


class _Scanner:
    """Walks a valid text, and notes where keys and entries begin."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._line_start, self._counted = 1, 0, 0
        self._lengths: dict[Path, int] = {}  # of arrays of tables
        self.found: dict[Path, Place] = {}

    def scan(self) -> None:
        table: Path = ()
        while self._peek():
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._peek() == "[":
                table = self._header(1)
            else:
                self._pair(table)

    def _header(self, brackets: int) -> Path:
        place = self._here()
        self._at += brackets
        parts = self._keys()
        path: Path = ()
        for number, (part, _) in enumerate(parts):
            path = (*path, part)
            if brackets == 2 and number == len(parts) - 1:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            self.found.setdefault(path, place)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self.found.setdefault(path, place)
        self._at += brackets
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for part, place in self._keys():
            path = (*path, part)
            self.found.setdefault(path, place)
        self._at += 1  # "="
        self._value(path)

    def _keys(self) -> list[tuple[str, Place]]:
        """The parts of a dotted key, with their places; stops at what follows it."""
        parts: list[tuple[str, Place]] = []
        while True:
            self._space()
            token = _KEY.match(self._text, self._at)
            assert token is not None, "the text is not TOML"
            name = token[0] if token[0][0] not in "\"'" else tomllib.loads(f"k = {token[0]}")["k"]
            parts.append((name, self._here()))
            self._at = token.end()
            self._space()
            if self._text[self._at] != ".":
                return parts
            self._at += 1

    def _value(self, path: Path) -> None:
        self._space()
        match self._text[self._at]:
            case "[":
                self._at += 1
                index = 0
                while self._peek() != "]":
                    self.found[(*path, index)] = self._here()
                    self._value((*path, index))
                    index += 1
                    self._comma()
                self._at += 1
            case "{":
                self._at += 1
                while self._peek() != "}":
                    self._pair(path)
                    self._comma()
                self._at += 1
            case _:
                token = _SCALAR.match(self._text, self._at)
                assert token is not None, "the text is not TOML"
                self._at = token.end()

    def _comma(self) -> None:
        if self._peek() == ",":
            self._at += 1

    def _peek(self) -> str:
        """The next character that is no space, line break or comment; empty at the end."""
        gap = _GAP.match(self._text, self._at)
        assert gap is not None
        self._at = gap.end()
        return self._text[self._at : self._at + 1]

    def _space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()

    def _here(self) -> Place:
        """The place at hand; lines are counted once, however many keys there are."""
        breaks = self._text.count("\n", self._counted, self._at)
        if breaks:
            self._line += breaks
            self._line_start = self._text.rfind("\n", 0, self._at) + 1
        self._counted = self._at
        return self._line, self._at - self._line_start + 1
