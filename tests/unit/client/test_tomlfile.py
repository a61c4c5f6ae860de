"""Where each key and entry of a TOML file stands, beside what tomllib reads."""

import tomllib
from collections.abc import Iterator

import pytest

from codeframe.tomlfile import TomlError, read_toml
from codeframe.tomlplaces import Path, places

TEXTS = [
    "",
    "# only a comment",
    "a = 1\nb.c = 2 # and b\nb.d = 3\n",
    "[a.b]\nc = 1\n[a]\nd = 1979-05-27 07:32:00\ne = 1979-05-27T07:32:00Z\n",
    '"quoted key"."with.dot" = 1\n\'literal\' = "a # no comment"\n"\\u00e9" = 1\n',
    'a = """one\n[not a table]\n""quoted"" b = 1"""\nb = \'\'\'\n[x]\n\'\'\'\nc = """x"""""\nd = 2\n',
    "a = [1, [2, 'x]'], {b = 3, c.d = [4]}, # comment ]\n  5,\n]\nb = []\nc = {}\n",
    "[[a]]\nb = 1\n[[a]]\n[a.c]\nd = 2\n[[a.e]]\nf = 3\n[[a.e]]\n",
    "a = true\r\n[b]\r\nc = [\r\n  1,\r\n  2\r\n]\r\n",
    "x = -1.5e3\ny=inf\nz = 0xff # hex\nt = 07:32:00",
]


def paths_of(value: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths_of(inner, (*path, index))


@pytest.mark.parametrize("text", TEXTS)
def test_every_key_and_entry_has_a_place(text: str) -> None:
    assert set(places(text)) == set(paths_of(tomllib.loads(text)))


def test_places_are_lines_and_columns() -> None:
    found = places("\n[setup]\n  paths = [\n    'a',\n    'b' ]\nx.y = { z = 1 }\n")
    assert found == {
        ("setup",): (2, 1),
        ("setup", "paths"): (3, 3),
        ("setup", "paths", 0): (4, 5),
        ("setup", "paths", 1): (5, 5),
        ("setup", "x"): (6, 1),
        ("setup", "x", "y"): (6, 3),
        ("setup", "x", "y", "z"): (6, 9),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = 1\nb = ?\n", "f.toml:2:5: Invalid value"),
        ("a = [1,\n", "f.toml:2:1: "),
        ("a = 1\na = 2\n", "f.toml:2:6: Cannot overwrite a value"),
        ("a = " + "[" * 5000, "f.toml:1:1: is nested too deeply"),
    ],
)
def test_what_is_not_toml_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(TomlError) as raised:
        read_toml(text, "f.toml")
    assert str(raised.value).startswith(told)


def test_a_missing_key_is_told_at_its_table() -> None:
    table = read_toml("x = 1\n[role]\n", "f.toml")
    table.value("x")
    table.table("role").text("title", needed=True)
    with pytest.raises(TomlError, match=r"^f\.toml:2:1: role\.title: is missing$"):
        table.end()
