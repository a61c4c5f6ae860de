"""`doctor`: what is missing for a run, and how to mend each."""

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.text import Text

from codeframe.cli.command import console, data_dir, run_async
from codeframe.cli.failure import NOT_COMPLETED, CommandFailed
from codeframe.cli.fleet import sandbox
from codeframe.cli.folder import running
from codeframe.cli.key import custom_endpoint, missing_key, without_key
from codeframe.cli.repository import GitFailed, git, repository_at, why_unfit
from codeframe.cli.up import USUAL_PORTS, check_services, is_free

GIT_NEEDED = (2, 38)
DISK_NEEDED, DISK_WISHED = 1 << 30, 5 << 30  # bytes
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was looked at: `state` is ok, warn or fail."""

    name: str
    state: str
    told: str
    mend: str = ""


@click.command()
@click.option("--repo", metavar="DIR", default="", help="A repository: is its base fit for a run?")
@data_dir
@sandbox
def doctor(repo: str, folder: Path, sandbox: str | None) -> None:
    """Say what is missing for a run, and how to mend it. No server needs to be running.

    With --repo its base is set up and verified, as the first thing of a run would be. Exits 1 where
    something fails.
    """
    sys.exit(run_async(_doctor(repo, folder, sandbox or os.environ.get("CODEFRAME_SANDBOX") or "auto")))


async def _doctor(repo: str, folder: Path, sandbox: str) -> int:
    failed = 0
    async for finding in _findings(repo, folder, sandbox):
        failed += finding.state == "fail"
        console.print(
            Text.assemble((f"{finding.state:5}", _COLOURS[finding.state]), f"{finding.name}: {finding.told}"),
            soft_wrap=True,
        )
        if finding.mend:
            console.print(Text(f"     mend: {finding.mend}"), soft_wrap=True)
    if failed:
        console.print(f"{failed} to mend before a run can work")
    return NOT_COMPLETED if failed else 0


async def _findings(repo: str, folder: Path, sandbox: str) -> AsyncIterator[Finding]:
    path = str(Path(repo).resolve()) if repo and Path(repo).exists() else repo
    for finding in (_key(), _git(), *_ports(folder), *_disk(folder), *_repository(path)):
        yield finding
        if finding.name == "repository" and finding.state == "fail":
            path = ""  # it was looked at enough
    try:
        check_services()
    except CommandFailed as error:
        yield Finding("servers", "fail", "not installed", error.message)
        return
    async for finding in _checkup(path, folder, sandbox):
        yield finding


def _key() -> Finding:
    if missing := missing_key(os.environ):
        told, _, mend = missing.partition(". ")
        return Finding("key", "fail", told, mend)
    endpoint = custom_endpoint(os.environ)
    return Finding("key", "ok", f"for {endpoint}, not Anthropic" if endpoint else "ANTHROPIC_API_KEY is set")


def _git() -> Finding:
    needed = ".".join(map(str, GIT_NEEDED))
    mend = f"install git {needed} or newer"
    try:
        told = git("--version").strip().removeprefix("git version ")
    except GitFailed as error:
        return Finding("git", "fail", str(error), mend)
    found = tuple(int(part) for part in re.findall(r"\d+", told)[:2])
    return Finding("git", "ok", told) if found >= GIT_NEEDED else Finding("git", "fail", told, mend)


def _ports(folder: Path) -> Iterator[Finding]:
    if up := running(folder):
        yield Finding("ports", "ok", f"codeframe is up in {folder}: lead {up.lead}, gateway {up.gateway}")
        return
    taken = [f"{port} ({name})" for name, port in USUAL_PORTS.items() if not is_free(port)]
    if not taken:
        yield Finding("ports", "ok", "the usual ones are free")
        return
    mend = "nothing, unless you count on these: `codeframe up` takes others and says which"
    yield Finding("ports", "warn", f"taken: {', '.join(taken)}", mend)


def _disk(folder: Path) -> Iterator[Finding]:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        mend = "choose another with --data-dir, or make it yours"
        yield Finding("data folder", "fail", f"{there} cannot be written to", mend)
        return
    free = shutil.disk_usage(there).free
    state = "fail" if free < DISK_NEEDED else "warn" if free < DISK_WISHED else "ok"
    mend = "free some, or choose another folder with --data-dir; each attempt has a checkout of its own"
    yield Finding("disk", state, f"{free / (1 << 30):.1f} GiB free in {there}", "" if state == "ok" else mend)


def _repository(path: str) -> Iterator[Finding]:
    if not path or ("://" in path or not os.path.isabs(path)):
        return  # what is elsewhere is for git to say
    if unfit := why_unfit(Path(path)):
        yield Finding("repository", "fail", *unfit)
        return
    repository = repository_at(Path(path))
    warnings = list(repository.warnings())
    if not warnings:
        yield Finding("repository", "ok", f"{path} at {repository.head()[:12]}")
    for warning in warnings:
        yield Finding("repository", "warn", warning, "commit what a run is to see")


async def _checkup(repo: str, folder: Path, sandbox: str) -> AsyncIterator[Finding]:
    """What a worker finds of the machine and the base: a process of its own, for it imports the services."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        scratch = tempfile.TemporaryDirectory(
            prefix="codeframe-doctor-", dir=there, ignore_cleanup_errors=True
        )
    except OSError:
        return  # the data folder cannot be written to, as was said
    with scratch as work:
        arguments = ["--data-dir", work, "--sandbox", sandbox, *(("--repo", repo) if repo else ())]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "services.workers.checkup", *arguments),
            cwd=work,
            env=without_key(os.environ),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async for line in process.stdout:
                yield Finding(**json.loads(line))
            complaint = (await process.stderr.read()).decode(errors="replace").strip()
            if await process.wait():
                last = complaint.splitlines()[-1] if complaint else f"exit code {process.returncode}"
                yield Finding("checkup", "fail", last, "a fault of codeframe's own, or of its installation")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
