"""A repository by path, file://, ssh:// and https://: worked on, and its credentials kept from commands."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from codeframe.v1 import evidence_pb2
from tests.attempts import task_request
from tests.git_https import PASSWORD, USER
from tests.git_project import files_at, git, make_project
from tests.worker_stage import serving, write

SECRET = "a-key-that-only-git-may-have"
# What the project's own check looks for: places and variables that only git needs, those of its parents too.
CHECK = """\
found=""
env | grep -q -e GIT_ -e ASKPASS && found="an environment of git's"
[ -e "{credentials}" ] && found="the credentials"
for one in /proc/[0-9]*/environ; do
  tr '\\0' '\\n' < "$one" 2>/dev/null | grep -q -e ^GIT_ASKPASS -e ^GIT_SSH_COMMAND && found="$one"
done
case "$found" in
  "") verdict="" ;;
  *) verdict="<failure>$found</failure>" ;;
esac
echo "<testsuite><testcase classname='check' name='keeps out'>$verdict</testcase></testsuite>" > report.xml
"""


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """Where an operator keeps what git needs to reach a server."""
    made = tmp_path / "credentials"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def project(tmp_path: Path, credentials: Path) -> Path:
    check = CHECK.replace("{credentials}", str(credentials))
    make_project(tmp_path / "project", {"check.sh": check, ".gitignore": "report.xml\n"})
    return tmp_path / "project"


def program(where: Path, text: str) -> Path:
    where.write_text(text)
    where.chmod(0o700)
    return where


@pytest.fixture
def https(tmp_path: Path, project: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The project's URL at a git server with a certificate and a password of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(credentials / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(credentials / "server.pem")
    )
    asks = program(
        credentials / "askpass",
        f'#!/bin/sh\ncase "$1" in Username*) echo {USER};; *) echo {PASSWORD};; esac\n',
    )
    monkeypatch.setenv("GIT_ASKPASS", str(asks))
    monkeypatch.setenv("GIT_SSL_CAINFO", str(credentials / "ca.pem"))
    git(project, "config", "http.receivepack", "true")
    command = [sys.executable, "-m", "tests.git_https", "--root", str(tmp_path)]
    with (
        (tmp_path / "git.log").open("ab") as log,
        subprocess.Popen(
            [*command, "--certificate", str(credentials / "server.pem")],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        yield f"https://127.0.0.1:{server.stdout.readline().strip()}/project/.git"
        server.terminate()


@pytest.fixture
def ssh(project: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The project's URL behind a program in ssh's place: it wants a key, and does what the far side would."""
    (credentials / "key").write_text(SECRET)
    far_side = program(
        credentials / "ssh",
        f'#!/bin/sh\n[ "$(cat {credentials}/key)" = {SECRET} ] || exit 255\n'
        'for last; do :; done\nexec sh -c "$last"\n',
    )
    monkeypatch.setenv("GIT_SSH_COMMAND", str(far_side))
    return f"ssh://git@git.invalid{project}"


@pytest.fixture(params=["path", "file", "ssh", "https"])
def url(request: pytest.FixtureRequest, project: Path) -> str:
    if request.param in ("ssh", "https"):
        named: str = request.getfixturevalue(request.param)
        return named
    return str(project) if request.param == "path" else f"file://{project}"


async def test_a_repository_is_worked_on_wherever_it_is_and_its_credentials_stay_outside(
    tmp_path: Path, project: Path, url: str
) -> None:
    base = git(project, "rev-parse", "HEAD")
    request = task_request(project, base, passing=["check::keeps out"], verification="sh check.sh")
    request.repository = url
    request.checks.report, request.checks.setup = "report.xml", "true"
    async with serving(tmp_path / "worker") as worker:
        worker.model.scripts["sum"] = [[write("shop.py", "a = 1\n")]]
        result = await worker.result(request)
        said = result.message + await worker.artifact(request.attempt_id, "log")
    assert evidence_pb2.Outcome.Name(result.outcome) == "OUTCOME_SUCCEEDED", said
    assert result.verifications[-1].passed == 1
    assert "shop.py" in files_at(project, result.commit)
    assert git(project, "rev-parse", request.task.branch) == result.commit
    assert PASSWORD not in said
    assert SECRET not in said
