"""codeframe.toml, and the verification that a tree tells."""

from datetime import timedelta

import pytest

from codeframe.project import ProjectFile, ProjectFileError, find_verification, parse_duration, read_project

WHOLE = """
[setup]
command = "make env"
paths = [".venv", "frontend/node_modules"]

[verification]
command = "make test"
report = "out/junit.xml"
timeout = "5m"
"""


def test_reads_every_key() -> None:
    assert read_project(WHOLE, "codeframe.toml") == ProjectFile(
        setup="make env",
        setup_paths=(".venv", "frontend/node_modules"),
        verification="make test",
        report="out/junit.xml",
        timeout=timedelta(minutes=5),
    )


def test_an_empty_file_says_nothing() -> None:
    assert read_project("", "codeframe.toml") == ProjectFile()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[build]\n", "x/codeframe.toml: build: unknown key; known here: setup, verification"),
        ('[setup]\ncomand = "a"\n', "setup.comand: unknown key; known here: command, paths"),
        ("setup = 1\n", "setup: must be a table"),
        ("[setup]\ncommand = 1\n", "setup.command: must be a string"),
        ("[setup]\npaths = '.venv'\n", "setup.paths: must be a list"),
        ("[setup]\npaths = ['a', '../b']\n", "setup.paths[1]: must lie inside the repository"),
        ("[setup]\npaths = ['/b']\n", "setup.paths[0]: must lie inside the repository"),
        ("[verification]\nreport = '/tmp/r.xml'\n", "verification.report: must lie inside the repository"),
        ("[verification]\ntimeout = 'soon'\n", "verification.timeout: must be seconds, or a string"),
        ("[verification]\ntimeout = true\n", "verification.timeout: must be seconds"),
        ("[verification]\ntimeout = 0\n", "verification.timeout: must be seconds"),
        ("[verification]\ntimeout = nan\n", "verification.timeout: must be seconds"),
        ("[verification]\ntimeout = '25h'\n", "verification.timeout: must be seconds"),
        ("[setup\n", "line 1, column 7"),
    ],
)
def test_an_error_names_the_file_and_the_key(text: str, named: str) -> None:
    with pytest.raises(ProjectFileError) as raised:
        read_project(text, "x/codeframe.toml")
    assert str(raised.value).startswith("x/codeframe.toml: ")
    assert named in str(raised.value)


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


NODE = '{"scripts": {"test": "node --test"}}'


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"README.md": ""}, None),
        ({}, None),
        ({"app.py": "", "tests/test_app.py": ""}, "python -m pytest"),
        ({"app_test.py": ""}, "python -m pytest"),
        ({"pyproject.toml": '[project]\nname = "a"\n'}, None),
        ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, "python -m pytest"),
        ({"setup.cfg": "[tool:pytest]\n"}, "python -m pytest"),
        ({"backend/pyproject.toml": "[tool.pytest.ini_options]\n"}, "python -m pytest backend"),
        ({"my api/pytest.ini": ""}, "python -m pytest 'my api'"),
        ({"package.json": NODE}, "npm test"),
        ({"frontend/package.json": NODE}, "npm test --prefix frontend"),
        ({"a/b/package.json": NODE, "web/package.json": NODE}, "npm test --prefix web"),
        ({"package.json": "{", "web/package.json": NODE}, "npm test --prefix web"),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, None),
        ({"package.json": '{"scripts": []}'}, None),
        ({"node_modules/x/package.json": NODE, "x/site-packages/test_a.py": "", ".tox/test_b.py": ""}, None),
        ({"frontend/package.json": NODE, "tests/test_app.py": ""}, "python -m pytest"),
    ],
)
def test_the_verification_that_a_tree_tells(files: dict[str, str], command: str | None) -> None:
    assert find_verification(files, files.get) == command


def test_a_frontend_task_of_a_mixed_tree_is_verified_by_npm() -> None:
    files = {"frontend/package.json": NODE, "tests/test_app.py": ""}
    assert find_verification(files, files.get, "frontend") == "npm test --prefix frontend"
    assert find_verification(files, files.get, "test") == "python -m pytest"


def test_a_file_that_is_not_text_says_nothing() -> None:
    assert find_verification(["package.json", "pyproject.toml"], lambda path: None) is None
