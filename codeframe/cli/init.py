"""`init`: a first codeframe.toml and plan, from a look at the repository."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from codeframe.cli.command import PATH
from codeframe.cli.failure import BAD_USAGE, CommandFailed
from codeframe.cli.repository import GitFailed, Repository, repository_at
from codeframe.finders import find_verification
from codeframe.planfile import SCHEMA_LINE
from codeframe.project import PROJECT_FILE, SCHEMA

PLAN_FILE = "plan.yaml"

_TEXT_LIMIT = 1 << 20
_PROJECT = """\
# How codeframe sets this project up and verifies what is done in it. It counts as it stands in the commit
# that a run starts from.

{verification}
# timeout = "5m"                # of one run of it

# What makes a fresh checkout able to run it is found by manifests and lock files. Where that is not enough:
# [setup]
# command = "make deps"         # run in a sandbox, with network
# paths = [".venv"]             # or: folders of your working tree that hold it already
"""
_NAMED = """\
[verification]
command = {command}  # found here
"""
_UNKNOWN = """\
# No tests were found. Name the command that runs them; it must run at least one.
# [verification]
# command = "make test"
"""
_ROLE = """\

# Work on the frontend is verified by its own tests.
[roles.frontend.verification]
command = {command}
"""
_PLAN = """\
# A first plan. Each task is done by an agent that sees nothing else of the plan: say what is to hold then.
title: A first run of codeframe
tasks:
  - id: edges
    title: Tests for the edges of what is there
    role: test
    description: |
      Find a public function whose behaviour at its edges (empty, zero, missing, too large) no test covers
      yet, and test it there. Change no code.

  # - id: next
  #   title: Something that you want
  #   role: backend             # or frontend, test; left out: by the words of title and description
  #   depends_on: [edges]
  #   description: |
  #     What is to hold when it is done.
"""


@click.command()
@click.argument("folder", metavar="[DIR]", type=PATH, default=".")
def init(folder: Path) -> None:
    """Write a first codeframe.toml and plan.yaml for the repository in DIR (default: here).

    What is there already is left as it is.
    """
    repository = _repository(folder)
    assert repository.root is not None
    found = look(repository)
    files = {PROJECT_FILE: project_text(found), PLAN_FILE: plan_text()}
    written = [name for name, text in files.items() if _write(repository.root / name, text)]
    for name in files:
        click.echo(f"{'wrote' if name in written else 'left'} {repository.root / name}")
    click.echo("\nWhat comes next:")
    for number, step in enumerate(_steps(found, written, repository), 1):
        click.echo(f"{number}. {step}")
    # Not in the file itself, which is committed: others have codeframe elsewhere.
    click.echo(f"\nEditors with Taplo check {PROJECT_FILE} by a first line of:\n#:schema {SCHEMA.as_uri()}")


def _repository(folder: Path) -> Repository:
    try:
        repository = repository_at(folder)
    except GitFailed as error:
        raise CommandFailed(f"{folder}: {error}; make one with `git init`", BAD_USAGE) from None
    if repository.root is None:
        raise CommandFailed(f"{folder} is a bare repository: run this in a working tree of it", BAD_USAGE)
    return repository


def look(repository: Repository) -> Mapping[str, str]:
    """The verification that the tree tells, by role; empty where none is found."""
    root = repository.root
    assert root is not None

    def read(path: str) -> str | None:
        file = root / path
        if file.is_symlink() or not file.is_file() or file.stat().st_size > _TEXT_LIMIT:
            return None
        return file.read_text(encoding="utf-8", errors="replace")

    paths = repository.files()
    return {role: find_verification(paths, read, role) or "" for role in ("backend", "frontend")}


def project_text(found: Mapping[str, str]) -> str:
    """A codeframe.toml for what was found."""
    backend, frontend = found["backend"], found["frontend"]
    verification = _NAMED.format(command=json.dumps(backend)).rstrip() if backend else _UNKNOWN.rstrip()
    text = _PROJECT.format(verification=verification)
    if frontend and frontend != backend:
        text += _ROLE.format(command=json.dumps(frontend))
    return text


def plan_text() -> str:
    """A plan that can be run as it is, in most projects."""
    return SCHEMA_LINE + _PLAN


def _write(file: Path, text: str) -> bool:
    """Write a new file; whether there was none."""
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise CommandFailed(f"{file}: {error.strerror}") from None
    return True


def _steps(found: Mapping[str, str], written: list[str], repository: Repository) -> list[str]:
    root = repository.root or Path()
    here = root == Path.cwd()
    codeframe, repo = _program(), "." if here else shlex.quote(str(root))
    plan = PLAN_FILE if here else shlex.quote(str(root / PLAN_FILE))
    steps = []
    if PROJECT_FILE in written and not any(found.values()):
        steps.append(f"Name the command that runs the tests in {PROJECT_FILE}: none was found.")
    if PROJECT_FILE in written or not repository.head():
        steps.append(f"Commit {PROJECT_FILE}: a run starts from what is committed, and sees nothing else.")
    steps.append(f"Ask whether all is ready: {codeframe} doctor --repo {repo}")
    steps.append(f"Run the plan: {codeframe} run {plan} --repo {repo}")
    steps.append(f'Or say what you want: {codeframe} run --goal "..." --repo {repo}')
    return steps


def _program() -> str:
    """How this was called, where a shell would not find it by its name."""
    called = sys.argv[0]
    if Path(called).name != "codeframe" or shutil.which("codeframe") == called:
        return "codeframe"
    return shlex.quote(called)
