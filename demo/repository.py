"""The sample project as a git repository."""

import asyncio
import os
import shutil
from pathlib import Path

from demo.failure import DemoFailed

PROJECT = Path(__file__).parent / "project"
_AUTHOR = {
    name: value
    for who in ("AUTHOR", "COMMITTER")
    for name, value in ((f"GIT_{who}_NAME", "codeframe demo"), (f"GIT_{who}_EMAIL", "demo@codeframe.invalid"))
}


async def make_repository(folder: Path) -> Path:
    """Copy the sample project into `folder` and commit it there, on the branch main. Raises DemoFailed."""
    leavings = shutil.ignore_patterns("__pycache__", ".*_cache", "node_modules", ".venv")
    shutil.copytree(PROJECT, folder, ignore=leavings)
    await git(folder, "init", "--quiet", "--initial-branch=main")
    await git(folder, "add", "--all")
    await git(folder, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message=A small shop")
    return folder


async def git(folder: Path, *arguments: str) -> str:
    """Run git in a repository of the demo; return what it said. Raises DemoFailed where it fails."""
    # The user's own settings (hooks, signing, templates) have no part in a sample repository.
    environment = {**os.environ, **_AUTHOR, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        cwd=folder,
        env={name: value for name, value in environment.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    said = output.decode(errors="replace").strip("\n")
    if process.returncode != 0:
        raise DemoFailed(f"git {arguments[0]} failed: {said}")
    return said
