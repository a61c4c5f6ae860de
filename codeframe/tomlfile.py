"""A TOML file as people write it: read key by key, where an error names file, line, column and key.

    table = read_toml(text, "codeframe.toml")
    setup = table.table("setup")
    command = setup.text("command")
    table.end()

Every key that was not asked for by the end is a mistake, told with the nearest that was. All problems are
told together. `tomllib` reads the values; it keeps no places, so `tomlplaces` finds those.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from codeframe.tomlplaces import Path, Place, place_of, places

T = TypeVar("T")
PROBLEM_LIMIT = 20

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
        line, column = (found[1], found[2]) if found and found[1] else place_of(text, len(text))
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
