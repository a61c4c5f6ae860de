"""codeframe.toml, read, refused by line, column and key, and as its published schema has it."""

import json
import tomllib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import codeframe
from codeframe.durations import parse_duration
from codeframe.project import ProjectFile, ProjectFileError, RoleOverride, read_project
from tests.json_schema import schema_faults

PACKAGE = Path(codeframe.__file__).parent

WHOLE = """
model = "claude-sonnet-5"

[setup]
command = "make env"
paths = [".venv", "frontend/node_modules"]

[verification]
command = "make test"
report = "out/junit.xml"
timeout = "5m"

[roles.frontend]
model = "claude-haiku-5"
allow = ["site/**", "site.config.js"]
deny = ["site/generated/**"]
verification = { command = "npm test --prefix site", report = "site/junit.xml" }

[roles.docs.setup]
paths = ["docs/.venv"]
"""


def test_reads_every_key() -> None:
    assert read_project(WHOLE, "codeframe.toml") == ProjectFile(
        setup="make env",
        setup_paths=(".venv", "frontend/node_modules"),
        verification="make test",
        report="out/junit.xml",
        timeout=timedelta(minutes=5),
        model="claude-sonnet-5",
        roles={
            "frontend": RoleOverride(
                model="claude-haiku-5",
                verification="npm test --prefix site",
                report="site/junit.xml",
                allow=("site/**", "site.config.js"),
                deny=("site/generated/**",),
            ),
            "docs": RoleOverride(setup_paths=("docs/.venv",)),
        },
    )


def test_an_empty_file_says_nothing() -> None:
    assert read_project("", "codeframe.toml") == ProjectFile()


def test_what_a_role_does_not_say_is_what_all_say() -> None:
    project = read_project(WHOLE)
    assert project.of("backend") == replace(project, roles={})
    frontend = project.of("frontend")
    assert (frontend.model, frontend.setup) == ("claude-haiku-5", "make env")
    assert (frontend.verification, frontend.report) == ("npm test --prefix site", "site/junit.xml")
    docs = project.of("docs")
    assert (docs.setup, docs.setup_paths, docs.verification) == ("", ("docs/.venv",), "make test")


def test_a_command_of_a_role_does_not_bring_the_report_of_another() -> None:
    text = WHOLE.replace(', report = "site/junit.xml"', "")
    assert read_project(text).of("frontend").report == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[build]\n", ":1:1: build: unknown key; known here: model, roles, setup, verification"),
        ("[verfication]\n", ":1:1: verfication: unknown key; did you mean verification?"),
        ('[setup]\ncomand = "a"\n', ":2:1: setup.comand: unknown key; did you mean command?"),
        ("\n  setup = 1\n", ":2:3: setup: must be a table"),
        ("[setup]\ncommand = 1\n", ":2:1: setup.command: must be a string"),
        (f"[setup]\ncommand = '{'x' * 2001}'\n", ":2:1: setup.command: must be at most 2000 characters"),
        ("[setup]\npaths = '.venv'\n", ":2:1: setup.paths: must be a list"),
        ("[setup]\npaths = ['a', '../b']\n", ":2:15: setup.paths[1]: must lie inside the repository"),
        ("[setup]\npaths = ['/b']\n", ":2:10: setup.paths[0]: must lie inside the repository"),
        ("[setup]\npaths = ['a', 1]\n", ":2:15: setup.paths[1]: must be a string"),
        ("[verification]\nreport = '/tmp/r.xml'\n", ":2:1: verification.report: must lie inside the repo"),
        ("[verification]\ncommand = 'none'\n", ":2:1: verification.command: must be a command; a task of a"),
        ("[verification]\ntimeout = 'soon'\n", ":2:1: verification.timeout: must be seconds, or a string"),
        ("[verification]\ntimeout = true\n", ":2:1: verification.timeout: must be seconds"),
        ("[verification]\ntimeout = 0\n", ":2:1: verification.timeout: must be seconds"),
        ("[verification]\ntimeout = nan\n", ":2:1: verification.timeout: must be seconds"),
        ("[verification]\ntimeout = '25h'\n", ":2:1: verification.timeout: must be seconds"),
        ("[roles.test]\nverification.timeout = 1\n", ":2:14: roles.test.verification.timeout: unknown key"),
        ("[roles.test]\nallow = ['../x/**']\n", ":2:10: roles.test.allow[0]: must lie inside"),
        ("[roles]\nTest = {}\n", ":2:1: roles.Test: a role's name is small letters"),
        ("[roles.frontend]\ndenny = []\n", ":2:1: roles.frontend.denny: unknown key; did you mean deny?"),
        ("[setup\n", ":1:7: Expected ']'"),
    ],
)
def test_an_error_names_the_file_the_line_the_column_and_the_key(text: str, named: str) -> None:
    with pytest.raises(ProjectFileError) as raised:
        read_project(text, "x/codeframe.toml")
    assert str(raised.value).startswith(f"x/codeframe.toml{named}")


def test_every_fault_is_told_in_the_files_order() -> None:
    with pytest.raises(ProjectFileError) as raised:
        read_project('model = 1\n[verification]\ncomand = "a"\n[setup]\npaths = 3\n')
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "model",
        "verification.comand",
        "setup.paths",
    ]


SCHEMA = json.loads((PACKAGE / "schema" / "codeframe.toml.schema.json").read_text())

FITTING = [
    "",
    WHOLE,
    "[verification]\ntimeout = 90\n",
    "[verification]\ntimeout = 0.5\n",
    "[verification]\ntimeout = '1h30m'\n",
    "[roles.docs]\n[roles.a-b2]\nallow = ['..a/**', 'a..', '.github/**']\n",
    "[setup]\npaths = []\ncommand = ''\n",
    f"[setup]\ncommand = '{'x' * 2000}'\n",
]
UNFIT = [
    "[build]\n",
    "model = 1\n",
    f"model = '{'x' * 201}'\n",
    "setup = 1\n",
    "[setup]\ncomand = 'a'\n",
    "[setup]\npaths = ['']\n",
    "[setup]\npaths = ['a/../../b']\n",
    "[setup]\npaths = ['..']\n",
    f"[setup]\npaths = {['a'] * 21}\n",
    f"[setup]\ncommand = '{'x' * 2001}'\n",
    "[verification]\nreport = '/tmp/r.xml'\n",
    "[verification]\nreport = '../r.xml'\n",
    "[verification]\ntimeout = true\n",
    "[verification]\ntimeout = 0\n",
    "[verification]\ntimeout = 90000\n",
    "[verification]\ntimeout = 'soon'\n",
    "[roles]\nTest = {}\n",
    "[roles]\ntest = 1\n",
    "[roles.test]\nscope = {}\n",
    "[roles.test]\nallow = 'a'\n",
    f"[roles.test]\ndeny = {['a'] * 101}\n",
    "[roles.test]\ndeny = ['/a']\n",
    f"[roles.test]\ndeny = ['{'a' * 501}']\n",
    "[roles.test.verification]\ntimeout = 5\n",
]


@pytest.mark.parametrize("text", FITTING)
def test_what_the_schema_takes_the_parser_takes(text: str) -> None:
    assert schema_faults(tomllib.loads(text), SCHEMA) == []
    read_project(text)


@pytest.mark.parametrize("text", UNFIT)
def test_what_the_schema_refuses_the_parser_refuses(text: str) -> None:
    assert schema_faults(tomllib.loads(text), SCHEMA) != []
    with pytest.raises(ProjectFileError):
        read_project(text)


def test_the_schema_knows_the_parsers_keys() -> None:
    """The parser tells the keys that it knows when it meets one that it does not."""
    role = SCHEMA["properties"]["roles"]["patternProperties"]["^[a-z][a-z0-9-]{0,49}$"]
    tables = {
        "": SCHEMA,
        "[setup]": SCHEMA["$defs"]["setup"],
        "[verification]": SCHEMA["properties"]["verification"],
        "[roles.a]": role,
        "[roles.a.setup]": SCHEMA["$defs"]["setup"],
        "[roles.a.verification]": role["properties"]["verification"],
    }
    for header, schema in tables.items():
        with pytest.raises(ProjectFileError) as raised:
            read_project(f"{header}\nzzzz = 1\n")
        assert str(raised.value).endswith(f"known here: {', '.join(sorted(schema['properties']))}")


def test_the_example_of_the_documents_is_read() -> None:
    text = (PACKAGE.parent / "docs" / "codeframe-toml.md").read_text()
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert read_project(example).of("frontend").verification == "npm test --prefix site"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5m", timedelta(seconds=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("90", None),
        ("", None),
        ("1d", None),
        ("-1s", None),
        ("9" * 400 + "h", None),
    ],
)
def test_durations(text: str, duration: timedelta | None) -> None:
    assert parse_duration(text) == duration
