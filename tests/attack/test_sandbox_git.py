"""Tests of a project that plant what the worker's next git would run, or leave what is hard to remove.

The model has its worker run them in its worktree, where the worker works on with git; then comes the verdict.
"""

import os
import subprocess
from pathlib import Path

import pytest

from codeframe.v1 import evidence_pb2
from services.workers.sandbox import Mode
from tests.attack.conftest import Try
from tests.attack.tally import Kind
from tests.attempts import task_request
from tests.git_project import bytes_of, git, make_project
from tests.python_project import python_project
from tests.sandboxes import each_mode
from tests.worker_stage import last_told, serving, write

FILES = {"tests/test_old.py": "def test_old():\n    assert True\n"}
KNOWN = "tests/test_old.py::test_old"

PLANT = """\
import os
from contextlib import suppress
from pathlib import Path

HOOKS = ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "pre-receive")


def plant(git_dir, tree, evil):
    with suppress(OSError):
        for folder in ("hooks", "objects", "refs", "info"):
            (git_dir / folder).mkdir(parents=True, exist_ok=True)
        for name in HOOKS:
            (git_dir / "hooks" / name).write_text(f"#!/bin/sh\\n{evil}\\n")
            (git_dir / "hooks" / name).chmod(0o755)
        (git_dir / "HEAD").write_text("ref: refs/heads/main\\n")
        (git_dir / "config").write_text(
            "[core]\\n repositoryformatversion = 0\\n"
            f' fsmonitor = "{evil}; false"\\n hooksPath = {git_dir}/hooks\\n'
            f'[filter "evil"]\\n clean = "{evil}; cat"\\n smudge = "{evil}; cat"\\n'
            f'[diff "evil"]\\n textconv = "{evil}; cat"\\n[merge "evil"]\\n driver = "{evil}"\\n'
        )
        (git_dir / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\\n")
    with suppress(OSError):
        (tree / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\\n")
"""
HOSTILE = (
    PLANT
    + """

def test_hostile():
    evil, project, data = "touch {evil}", Path("{project}"), Path("{data}")
    plant(Path.cwd() / ".git", Path.cwd(), evil)
    plant(Path.cwd() / "nested" / ".git", Path.cwd() / "nested", evil)
    plant(project / ".git", project, evil)
    for clone in (data / "repositories").glob("*"):
        plant(clone, clone, evil)
    for place in ("..", "../..", os.environ["HOME"]):
        with suppress(OSError):
            Path(place, ".gitconfig").write_text(f'[core]\\\\n fsmonitor = "{{evil}}"\\\\n')
"""
)

ODD = """\
import os
from contextlib import suppress


def test_leaves_odd_files():
    os.makedirs("odd/loop")
    for name in (b"odd/two\\nlines", b"odd/not \\xff\\xfe utf-8", b"odd/--force", b"odd/ \\t"):
        with suppress(OSError):
            open(name, "w").close()
    os.symlink("loop", "odd/loop/loop")
    os.symlink("..", "odd/up")
    os.symlink("/", "odd/root")
    with open("odd/big", "wb") as big:
        big.truncate(1000 << 20)  # it takes no disk
    os.mkfifo("odd/pipe")
    os.makedirs("odd/closed")
    open("odd/closed/file", "w").close()
    os.chmod("odd/closed", 0)
    for _ in range(300):
        os.mkdir("d" * 50)
        os.chdir("d" * 50)
"""


BIG = """\
import os


def test_leaves_a_big_file():
    block = os.urandom(1 << 20)
    with open("big", "wb") as big:
        for _ in range(1000):
            big.write(block)
"""

# A repository whose submodule is what stands beside it, and whose large files are kept elsewhere: a plain git
# with the user's settings would fetch the one, run its command, and run the filter for the other.
OTHERS = {
    **FILES,
    ".gitmodules": '[submodule "inner"]\n path = inner\n url = {beside}\n update = !touch {evil}\n'
    '[submodule "up"]\n path = up\n url = ../beside\n',
    ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    ".lfsconfig": "[lfs]\n url = file://{beside}\n standalonetransferagent = evil\n"
    '[lfs "customtransfer.evil"]\n path = touch\n args = {evil}\n',
    "large.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12\n",
}
SETTINGS = """\
[filter "lfs"]
 clean = "touch {evil}; cat"
 smudge = "touch {evil}; cat"
 process = "touch {evil}"
 required = true
[protocol "file"]
 allow = always
[submodule]
 recurse = true
"""
READS_OTHERS = """\
import os
from pathlib import Path


def test_sees_no_submodule():
    for name in ("inner", "up"):
        assert not os.path.exists(name) or os.listdir(name) == []
    assert Path("large.bin").read_text().startswith("version https://git-lfs")
"""


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
def mode(request: pytest.FixtureRequest) -> Mode:
    held: Mode = request.param
    return held


async def done(
    tmp_path: Path, python: Path, mode: Mode, test: str, base: str = ""
) -> tuple[evidence_pb2.TaskResult, list[str]]:
    """Have a model write a test, run it in its worktree, and end; the result, and what the model was told.

    The user's repository is as it was but for our branches, and no workspace is left.
    """
    base = base or python_project(tmp_path / "project", python, FILES)
    before = bytes_of(tmp_path / "project")
    async with serving(tmp_path / "data", sandbox=mode.value) as worker:
        worker.model.scripts["sum"] = [
            [write("tests/test_new.py", test)],
            [("run_tests", {})],
            [write("more.py", "a = 1\n")],
        ]
        result = await worker.result(task_request(tmp_path / "project", base, passing=[KNOWN], corrections=0))
        told = [last_told(conversation) for conversation in worker.model.conversations]
    assert list((tmp_path / "data" / "attempts").iterdir()) == []
    assert bytes_of(tmp_path / "project") == before
    return result, told


async def test_what_is_planted_for_git_never_runs(
    tmp_path: Path, python: Path, mode: Mode, attack: Try
) -> None:
    tried = attack(Kind.SANDBOX, mode.value)
    evil = tmp_path / "evil"
    hostile = HOSTILE.replace("{{", "\1").replace("}}", "\2").replace("{evil}", str(evil), 1)
    hostile = hostile.replace("{project}", str(tmp_path / "project")).replace(
        "{data}", str(tmp_path / "data")
    )
    hostile = hostile.replace("\1", "{").replace("\2", "}")
    compile(hostile, "test_new.py", "exec")
    result, told = await done(tmp_path, python, mode, hostile)
    if evil.exists():
        tried.won()
    assert not evil.exists()
    # The attempt ends as a normal one: its commit has the model's files, and nothing that was planted.
    assert result.outcome == evidence_pb2.OUTCOME_SUCCEEDED, result.message
    assert {file.path for file in result.files} == {"tests/test_new.py", "more.py"}
    assert any("2 passed" in text for text in told)


def test_what_is_planted_runs_where_git_is_called_plainly(tmp_path: Path) -> None:
    """So it is a real attack."""
    names: dict[str, object] = {}
    exec(compile(PLANT, "plant", "exec"), names)
    tree, evil = tmp_path / "tree", tmp_path / "evil"
    tree.mkdir()
    plant = names["plant"]
    assert callable(plant)
    plant(tree / ".git", tree, f"touch {evil}")
    subprocess.run(["git", "add", "--all"], cwd=tree, check=False, env={"PATH": os.environ["PATH"]})
    assert evil.exists()


async def test_odd_files_are_removed_and_change_nothing(
    tmp_path: Path, python: Path, mode: Mode, attack: Try
) -> None:
    tried = attack(Kind.SANDBOX, mode.value)
    result, told = await done(tmp_path, python, mode, ODD)
    if result.outcome != evidence_pb2.OUTCOME_SUCCEEDED:
        tried.won()
    assert result.outcome == evidence_pb2.OUTCOME_SUCCEEDED, result.message
    assert {file.path for file in result.files} == {"tests/test_new.py", "more.py"}
    assert any("2 passed" in text for text in told)


@pytest.mark.thorough
async def test_a_gigabyte_in_a_file_changes_nothing(
    tmp_path: Path, python: Path, mode: Mode, attack: Try
) -> None:
    attack(Kind.SANDBOX, mode.value)
    result, told = await done(tmp_path, python, mode, BIG)
    assert result.outcome == evidence_pb2.OUTCOME_SUCCEEDED, result.message
    assert {file.path for file in result.files} == {"tests/test_new.py", "more.py"}
    assert any("2 passed" in text for text in told)


@pytest.fixture
def others(tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit of a project with submodules and large files, where the user's git would act on them."""
    beside = tmp_path / "beside"
    secret = make_project(beside, {"secret.txt": "secret-beside"})
    home, facts = tmp_path / "home", {"{evil}": str(tmp_path / "evil"), "{beside}": str(beside)}
    home.mkdir()
    files, settings = dict(OTHERS), SETTINGS
    for word, value in facts.items():
        files = {name: text.replace(word, value) for name, text in files.items()}
        settings = settings.replace(word, value)
    base = python_project(tmp_path / "project", python, files)
    for place in ("inner", "up"):
        git(tmp_path / "project", "update-index", "--add", "--cacheinfo", f"160000,{secret},{place}")
    git(tmp_path / "project", "commit", "--quiet", "-m", "submodules")
    base = git(tmp_path / "project", "rev-parse", "HEAD")
    (home / ".gitconfig").write_text(settings)
    monkeypatch.setenv("HOME", str(home))
    return base


async def test_submodules_and_large_files_are_left_where_they_are(
    tmp_path: Path, python: Path, mode: Mode, attack: Try, others: str
) -> None:
    attack(Kind.SANDBOX, mode.value)
    result, told = await done(tmp_path, python, mode, READS_OTHERS, others)
    assert not (tmp_path / "evil").exists()
    assert result.outcome == evidence_pb2.OUTCOME_SUCCEEDED, result.message
    assert {file.path for file in result.files} == {"tests/test_new.py", "more.py"}
    assert any("2 passed" in text for text in told)
    clone = next((tmp_path / "data" / "repositories").iterdir())
    assert "secret-beside" not in str(result)
    assert not git(clone, "rev-list", "--all", "--objects", "--", "secret.txt")


def test_large_files_run_a_filter_where_git_is_called_plainly(tmp_path: Path, others: str) -> None:
    """So it is a real attack."""
    clone = ("clone", "--quiet", str(tmp_path / "project"), str(tmp_path / "clone"))
    subprocess.run(["git", *clone], check=False)
    assert (tmp_path / "evil").exists()
