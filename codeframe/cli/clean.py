"""`clean`: a run's branches are removed; work that is nowhere else only where that is wanted."""

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from codeframe.cli.command import data_dir, find_lead, lead_address, run_async
from codeframe.cli.failure import BAD_USAGE, NOT_COMPLETED, CommandFailed
from codeframe.cli.folder import running
from codeframe.cli.names import run_state
from codeframe.cli.repository import GitFailed, Repository, git, repository_at
from codeframe.client import Client, CodeframeError
from codeframe.v1 import lead_pb2, state_pb2

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENDED = {state_pb2.RUN_STATE_COMPLETED, state_pb2.RUN_STATE_FAILED, state_pb2.RUN_STATE_CANCELLED}


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of the run. `own` are its commits that no other branch has; `checked_out` is where it is."""

    ref: str
    commit: str
    own: int
    subject: str
    checked_out: str

    @property
    def name(self) -> str:
        """Without `refs/heads/`."""
        return self.ref.removeprefix("refs/heads/")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--repo", metavar="DIR", help="The repository, where no lead that knows the run is running.")
@click.option(
    "--yes",
    is_flag=True,
    help="Delete without a question: work that is on no other branch, and where nobody says that RUN ended.",
)
@data_dir
@lead_address
def clean(run_id: str, repo: str | None, yes: bool, folder: Path, lead: str | None) -> None:
    """Remove the branches of RUN from its repository, listing first what is on no other branch.

    Such work is deleted only where you say so, by an answer or by --yes; else it is kept, and the exit
    code is 1. A run that goes on is left alone. With --repo it may be that no lead says whether RUN has
    ended; then all is deleted only where you say so.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise CommandFailed(f"{run_id!r} is no run's id; `codeframe runs` lists them", BAD_USAGE)
    where, doubt = repo, ""
    if where is None:
        where = run_async(_ended(find_lead(lead, folder), run_id)).repository
    else:
        doubt = run_async(_doubt(lead, folder, run_id))
    try:
        with _opened(where) as opened:
            sys.exit(_clean(opened, where, run_id, doubt, yes))
    except GitFailed as error:
        raise CommandFailed(f"{where}: {error}") from None


async def _ended(address: str, run_id: str) -> lead_pb2.Run:
    """The run, of a lead that knows it. Raises CommandFailed where it goes on."""
    async with Client(address) as client:
        run: lead_pb2.Run = await client.get_run(run_id)
    if run.state not in _ENDED:
        state = run_state(run.state)
        raise CommandFailed(f"run {run_id} is {state}; end it first: codeframe cancel {run_id}", BAD_USAGE)
    return run


async def _doubt(lead: str | None, folder: Path, run_id: str) -> str:
    """Why it is not known that a run has ended; empty where it has. Raises CommandFailed where it goes on."""
    up = running(folder)
    address = lead or (up.lead if up else "")
    if not address:
        return f"no lead is running in {folder}"
    try:
        await _ended(address, run_id)
    except CodeframeError as error:
        if error.reason != "ERROR_REASON_RUN_NOT_FOUND":
            raise
        return f"the lead at {address} does not know it"
    return ""


@contextmanager
def _opened(where: str) -> Iterator[Repository]:
    """The repository itself, where it is on this machine, else what of its history a fetch tells."""
    path = Path(where.removeprefix("file://"))
    if path.exists():
        yield repository_at(path)
        return
    with tempfile.TemporaryDirectory(prefix="codeframe-clean-") as folder:
        copy = Repository(Path(folder), None)
        copy.git("init", "--quiet", "--bare")
        copy.git(
            "fetch", "--quiet", "--filter=tree:0", "--no-tags", "--", where, "+refs/heads/*:refs/heads/*"
        )
        yield copy


def _clean(repository: Repository, where: str, run_id: str, doubt: str, yes: bool) -> int:
    branches = branches_of(repository, run_id)
    if not branches:
        click.echo(f"run {run_id} has no branches in {where}")
        return 0
    for branch in branches:
        if branch.checked_out:
            raise CommandFailed(f"{branch.name} is checked out in {branch.checked_out}: leave it first")
    unmerged = [branch for branch in branches if branch.own]
    for branch in unmerged:
        commits = f"{branch.own} commit{'' if branch.own == 1 else 's'}"
        click.echo(f"{branch.name}: {commits} on no other branch, the last: {branch.subject}")
    question = "Delete that work, too?" if unmerged else ""
    if doubt:
        click.echo(f"whether run {run_id} has ended is not known: {doubt}. One that goes on would fail.")
        question = "Delete its branches, that work, too?" if unmerged else "Delete its branches?"
    if question and not yes and sys.stdin.isatty():
        yes = click.confirm(question, default=False)
    doomed = [branch for branch in branches if yes or not (branch.own or doubt)]
    _delete(repository, where, doomed)
    click.echo(f"deleted {len(doomed)} of {len(branches)} branches of run {run_id}")
    if len(doomed) == len(branches):
        return 0
    at = f" --repo {shlex.quote(where)}" if doubt else ""
    click.echo(f"the rest is kept; delete it, too, with: codeframe clean {run_id}{at} --yes")
    return NOT_COMPLETED


def branches_of(repository: Repository, run_id: str) -> Sequence[Branch]:
    """The run's branches, its head first. Raises GitFailed."""
    folder = f"refs/heads/codeframe/{run_id}/"
    head = f"{folder}head"
    listed = repository.git(
        "for-each-ref", "--format=%(refname)%00%(objectname)%00%(worktreepath)%00%(contents:subject)", folder
    )
    rows = [line.split("\0") for line in listed.splitlines()]
    rows.sort(key=lambda row: (row[0] != head, row[0]))
    found = []
    for ref, commit, checked_out, subject in rows:
        others = [] if ref == head or rows[0][0] != head else [head]
        own = repository.git("rev-list", "--count", commit, "--not", f"--exclude={folder}*", "--all", *others)
        found.append(Branch(ref, commit, int(own), subject, checked_out))
    return found


def _delete(repository: Repository, where: str, doomed: Sequence[Branch]) -> None:
    """Delete branches that are still where they were listed, all or none. Raises GitFailed."""
    if not doomed:
        return
    if Path(where.removeprefix("file://")).exists():
        orders = "".join(f"delete {branch.ref}\0{branch.commit}\0" for branch in doomed)
        repository.git("update-ref", "--stdin", "-z", stdin=orders)
        return
    leases = [f"--force-with-lease={branch.ref}:{branch.commit}" for branch in doomed]
    git("push", "--quiet", *leases, where, *(f":{branch.ref}" for branch in doomed), at=repository.git_dir)
