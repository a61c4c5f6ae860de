"""A TOML file as people write it: read key by key, where an error names file, line, column and key.

    table = read_toml(text, "codeframe.toml")
    setup = table.table("setup")
    command = setup.text("command")
    table.end()

Every key that was not asked for by the end is a mistake, told with the nearest that was. All problems are
told together. `tomllib` reads the values; it keeps no places, so `places` finds those by itself.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1."""

PROBLEM_LIMIT = 20

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
_WHERE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")


class TomlError(Exception):
    """The file cannot be used. `problems` are lines `file:line:column: key: what`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_toml(text: str, file: str) -> "Table":
    """The root table; `file` is how errors name it. Raises TomlError where it is not TOML."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = _WHERE.search(said)
        line, column = (found[1], found[2]) if found and found[1] else _place(text, len(text))
        raise TomlError([f"{file}:{line}:{column}: {_WHERE.sub('', said).strip()}"]) from None
    except RecursionError:
        raise TomlError([f"{file}:1:1: is nested too deeply"]) from None
    return Table(_File(file, places(text)), (), values)


@dataclass(slots=True)
class _File:
    """What the tables of one file share."""

    name: str
    places: Mapping[Path, Place]
    problems: list[tuple[Place, str]] = field(default_factory=list)


class Table:
    """A table that is read key by key. A wrong value is noted as a problem, and read as if it were absent."""

    def __init__(self, file: _File, path: Path, values: Mapping[str, object]) -> None:
        self._file = file
        self._path = path
        self._values = values
        self._known: dict[str, None] = {}
        self._inner: list[Table] = []

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that stand in it."""
        return tuple(self._values)

    def text(self, key: str, *, longest: int = 0, needed: bool = False) -> str:
        """A string; empty where there is none. `longest` bounds its characters."""
        value = self._take(key, str, "a string", "")
        if needed and not value.strip():
            self.problem(key, "must not be empty" if key in self._values else "is missing")
        if longest and len(value) > longest:
            self.problem(key, f"must be at most {longest} characters")
        if "\0" in value:
            self.problem(key, "must hold no NUL")
        return value

    def flag(self, key: str) -> bool:
        """A boolean; false where there is none."""
        return self._take(key, bool, "true or false", False)

    def texts(self, key: str, *, most: int = 1000) -> tuple[str, ...]:
        """A list of strings that are not empty; an empty one where there is none."""
        values: list[object] = self._take(key, list, "a list of strings", [])
        if len(values) > most:
            self.problem(key, f"must have at most {most} entries")
            return ()
        found: list[str] = []
        for index, value in enumerate(values):
            if isinstance(value, str) and value and "\0" not in value:
                found.append(value)
            else:
                self.problem(key, "must be a string that is not empty", index)
        return tuple(found)

    def names(self, key: str, known: Collection[str], *, needed: bool = False) -> tuple[str, ...]:
        """A list of names that are known."""
        names = self.texts(key)
        if needed and not names:
            self.problem(key, "must name at least one" if key in self._values else "is missing")
        for index, name in enumerate(names):
            if name not in known:
                self.problem(key, f"{name!r} is not known; {offer(name, known)}", index)
        return tuple(name for name in names if name in known)

    def value(self, key: str) -> object:
        """What stands there, of any type; None where nothing does."""
        self._known[key] = None
        return self._values.get(key)

    def table(self, key: str) -> "Table":
        """A table in it; an empty one where there is none."""
        table = Table(self._file, (*self._path, key), self._take(key, dict, f"a table: [{key}]", {}))
        self._inner.append(table)
        return table

    def problem(self, key: str, what: str, index: int | None = None) -> None:
        """Note what is wrong with a key, or with an entry of its list."""
        path: Path = (*self._path, key) if index is None else (*self._path, key, index)
        places, at = self._file.places, path
        while at and at not in places:
            at = at[:-1]
        self._file.problems.append((places.get(at, (1, 1)), f"{_spoken(path)}: {what}"))

    def end(self) -> None:
        """Say that everything was asked for. Raises TomlError where anything is wrong with the file."""
        self._note_unknown()
        told = sorted(set(self._file.problems))[:PROBLEM_LIMIT]
        if told:
            name = self._file.name
            raise TomlError([f"{name}:{line}:{column}: {what}" for (line, column), what in told])

    def _note_unknown(self) -> None:
        for key in self._values:
            if key not in self._known:
                self.problem(key, f"unknown key; {offer(key, self._known)}")
        for table in self._inner:
            table._note_unknown()

    def _take(self, key: str, kind: type[T], called: str, default: T) -> T:
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, kind):
            return value
        self.problem(key, f"must be {called}")
        return default


def offer(name: str, known: Collection[str]) -> str:
    """The nearest known name, and all of them."""
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {nearest[0]}? " if nearest else ""
    return (
        f"{meant}Known here: {', '.join(sorted(known))}"
        if meant
        else f"known here: {', '.join(sorted(known))}"
    )


def _spoken(path: Path) -> str:
    said = ""
    for part in path:
        said += f"[{part}]" if isinstance(part, int) else f".{part}" if said else part
    return said


def places(text: str) -> dict[Path, Place]:
    """Where each key and each entry of a list stands in a text that is valid TOML."""
    scanner = _Scanner(text.replace("\r\n", " \n"))
    scanner.scan()
    return scanner.found


def _place(text: str, at: int) -> Place:
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
