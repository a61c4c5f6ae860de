"""The verification that a tree tells."""

import pytest

from codeframe.finders import find_report, find_verification

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
        ({"go.mod": "module a\n", "a_test.go": ""}, "go test ./..."),
        ({"my api/go.mod": "module a\n"}, "cd 'my api' && go test ./..."),
        ({"go.mod": "", "web/package.json": NODE}, "go test ./..."),
        ({"package.json": NODE, "tools/go.mod": ""}, "npm test"),
        ({"go.work": "go 1.22\n\nuse ./api\n", "api/go.mod": ""}, "go test ./api/..."),
        (
            {"go.work": 'use (\n\t. // root\n\t"./cmd/a"\n\t../b\n)\nreplace c => ./c\n', "go.mod": ""},
            "go test ./... ./cmd/a/...",
        ),
        ({"svc/go.work": "use ./a\n", "svc/a/go.mod": ""}, "cd svc && go test ./a/..."),
        ({"go.work": "go 1.22\n", "go.mod": ""}, "go test ./..."),
        ({"Cargo.toml": '[package]\nname = "a"\n'}, "cargo test"),
        ({"Cargo.toml": '[workspace]\nmembers = ["a"]\n', "a/Cargo.toml": ""}, "cargo test --workspace"),
        ({"core/Cargo.toml": ""}, "cargo test --manifest-path core/Cargo.toml"),
        ({"go.mod": "", "tests/test_app.py": ""}, "python -m pytest"),
        ({"vendor/x/go.mod": "", "build/Cargo.toml": ""}, None),
        ({"Makefile": "test: build\n\tctest --output-junit out/unit.xml\n"}, "make test"),
        ({"Makefile": "test:\n\t./run.sh > $$CODEFRAME_REPORT\n"}, "make test"),
        ({"Makefile": "test:\n\t./run.sh\n"}, None),
        ({"Makefile": "test := x\nunit:\n\tctest --junit out.xml\n"}, None),
        ({"Makefile": "test:\n\tctest --junit out.xml\n", "go.mod": ""}, "go test ./..."),
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


@pytest.mark.parametrize(
    ("line", "report"),
    [
        ("pytest --junitxml=out/junit.xml", "out/junit.xml"),
        ("pytest --junit-xml ./report.xml -q", "report.xml"),
        ("gotestsum --junitfile unit.xml -- ./...", "unit.xml"),
        ("JEST_JUNIT_OUTPUT_FILE=reports/j.xml npx jest", "reports/j.xml"),
        ('vitest run --reporter=junit --outputFile="junit.xml"', "junit.xml"),
        ("pytest --junitxml=$(OUT)/junit.xml", ""),
        ("pytest --junitxml=/tmp/junit.xml", ""),
        ("phpunit --configuration phpunit.dist", ""),
    ],
)
def test_where_a_makefile_leaves_its_report(line: str, report: str) -> None:
    files = {"Makefile": f"test:\n\t{line}\n"}
    assert find_report(files, files.get, "make test") == report
    assert find_report(files, files.get, "make check") == ""
    assert find_report([], files.get, "make test") == ""
