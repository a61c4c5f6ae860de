"""The verification that a tree tells."""

import pytest

from codeframe.finders import find_verification

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
