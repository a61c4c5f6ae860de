"""`codeframe doctor`: what it finds of a machine and of a repository, in real processes."""

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from codeframe.cli.__main__ import main
from codeframe.cli.up import USUAL_PORTS
from services.workers.sandbox import Mode
from tests.git_project import bytes_of, commit_files, git, make_project
from tests.sandboxes import allows

SETUP_AND_TESTS = """\
[setup]
command = "touch made"
[verification]
command = "sh verify.sh"
report = "report.xml"
"""
VERIFY = """\
cat > report.xml <<END
<testsuite><testcase classname="a" name="one"/><testcase classname="a" name="two">%s</testcase></testsuite>
END
"""
GREEN = {"codeframe.toml": SETUP_AND_TESTS, "verify.sh": VERIFY % ""}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_BASE_URL", "CODEFRAME_DATA_DIR", "CODEFRAME_SANDBOX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def doctor(*arguments: str) -> Result:
    sandbox = () if allows(Mode.BUBBLEWRAP) or allows(Mode.SANDLOCK) else ("--sandbox", "none")
    return CliRunner().invoke(main, ["doctor", *sandbox, *arguments])


def test_a_repository_that_is_fit_is_left_as_it_was(tmp_path: Path) -> None:
    commit = make_project(tmp_path / "shop", GREEN)
    before = bytes_of(tmp_path / "shop")
    result = doctor("--repo", str(tmp_path / "shop"))
    assert result.exit_code == 0, result.output
    for part in (
        "ok   key: ANTHROPIC_API_KEY is set",
        "ok   git: 2.",
        "ok   disk: ",
        f"ok   repository: {tmp_path}/shop at {commit[:12]}",
        "sandbox: ",
        "ok   base: sh verify.sh: 2 tests passed",
    ):
        assert part in result.output
    assert "fail " not in result.output
    assert bytes_of(tmp_path / "shop") == before
    assert not (tmp_path / "state").exists(), "nothing is left behind"


BASES = {
    "red tests": (
        GREEN | {"verify.sh": VERIFY % "<failure/>"},
        "warn base: sh verify.sh: 1 of 2 tests are red: ",
        0,
    ),
    "no report": (
        GREEN | {"verify.sh": "true"},
        "fail base: sh verify.sh: it could not be run: the command left no test report",
        1,
    ),
    "a setup that fails": (
        GREEN | {"codeframe.toml": SETUP_AND_TESTS.replace("touch made", "echo no such thing; exit 3")},
        "no such thing",
        1,
    ),
    "no verification": ({"README.md": ""}, "fail verification: the base tells no command", 1),
    "a key that is not known": (
        {"codeframe.toml": "[verification]\ncomand = 'x'\n"},
        "codeframe.toml:2:1: verification.comand: unknown key; did you mean command?",
        1,
    ),
}


@pytest.mark.parametrize("fault", BASES)
def test_what_is_wrong_with_a_base_is_told_with_how_to_mend_it(tmp_path: Path, fault: str) -> None:
    files, says, code = BASES[fault]
    make_project(tmp_path / "shop", files)
    result = doctor("--repo", str(tmp_path / "shop"))
    assert says in result.output
    assert "mend: " in result.output.partition(says)[2]
    assert result.exit_code == code


def test_a_codeframe_toml_that_is_no_text_is_told_as_the_lead_refuses_it(tmp_path: Path) -> None:
    make_project(tmp_path / "shop", GREEN | {"tests/test_one.py": "def test_one(): pass\n"})
    (tmp_path / "shop" / "codeframe.toml").write_bytes(b"\xff\xfe")
    commit_files(tmp_path / "shop", {})
    result = doctor("--repo", str(tmp_path / "shop"))
    assert "fail base: codeframe.toml: is not UTF-8 text (at byte 0)" in result.output
    assert result.exit_code == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a repository to another user")
def test_another_users_repository_is_told_with_a_mend_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, settings = tmp_path / "shop", tmp_path / "gitconfig"
    make_project(shop, GREEN)
    git(tmp_path, "config", "--file", str(settings), "safe.directory", str(shop))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    for place in (shop, *shop.rglob("*")):
        os.chown(place, 65534, 65534)
    result = doctor("--repo", str(shop))
    assert (
        f"fail base: {shop} belongs to another user\n     mend: run codeframe as its owner" in result.output
    )
    assert "git config --global" not in result.output
    assert result.exit_code == 1


def test_one_test_is_told_as_one(tmp_path: Path) -> None:
    one = VERIFY.replace('<testcase classname="a" name="two">%s</testcase>', "")
    make_project(tmp_path / "shop", GREEN | {"verify.sh": one})
    result = doctor("--repo", str(tmp_path / "shop"))
    assert "ok   base: sh verify.sh: 1 test passed\n" in result.output


def test_what_is_no_repository_to_run_on_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = doctor("--repo", str(tmp_path / "empty"))
    assert (result.exit_code, "fail repository: " in result.output) == (1, True)
    git(tmp_path / "empty", "init", "--quiet")
    result = doctor("--repo", str(tmp_path / "empty"))
    assert (result.exit_code, "has no commit" in result.output) == (1, True)
    commit_files(tmp_path / "empty", {"sub/a": ""})
    result = doctor("--repo", str(tmp_path / "empty" / "sub"))
    assert (result.exit_code, f"is a folder of the repository {tmp_path}/empty" in result.output) == (1, True)


def test_what_the_machine_lacks_is_told_with_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.30.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    (tmp_path / "file").write_text("")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", USUAL_PORTS["planner"]))
            taken.listen()
        except OSError:
            pass  # somebody has it already, which is what we want
        result = doctor("--data-dir", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    for part in (
        "fail key: ANTHROPIC_API_KEY is not set",
        "fail git: 2.30.1\n     mend: install git 2.38 or newer",
        f"{USUAL_PORTS['planner']} (planner)",
        f"fail data folder: {tmp_path}/file cannot be written to\n     mend: choose another with --data-dir",
        "3 to mend before a run can work",
    ):
        assert part in result.output
