"""A user's git repository, made and looked at as a user would."""

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_PERSON = ("-c", "user.name=A Person", "-c", "user.email=person@example.org", "-c", "init.defaultBranch=main")


def git(where: Path, *arguments: str, stdin: str = "") -> str:
    """Run git as the user; its stdout."""
    command = ["git", *_PERSON, *arguments]
    done = subprocess.run(command, cwd=where, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit_files(where: Path, files: Mapping[str, str | None], message: str = "work") -> str:
    """Write files (None: remove), and commit them; the commit."""
    for name, text in files.items():
        path = where / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(where, "rev-parse", "HEAD")


def make_project(where: Path, files: Mapping[str, str]) -> str:
    """A repository with one commit; the commit."""
    where.mkdir(parents=True)
    git(where, "init", "--quiet")
    return commit_files(where, files, "first")


def files_at(where: Path, commit: str) -> set[str]:
    """The files of a commit."""
    return set(git(where, "ls-tree", "-r", "--name-only", commit).splitlines())


def branches(where: Path, pattern: str = "codeframe/") -> dict[str, str]:
    """The branches below a prefix, with their commits."""
    listing = git(
        where, "for-each-ref", "--format=%(refname:lstrip=2)=%(objectname)", f"refs/heads/{pattern}"
    )
    return dict(line.split("=") for line in listing.splitlines())


_OURS = (".git/objects", ".git/refs/heads/codeframe", ".git/logs/refs/heads/codeframe")


def bytes_of(folder: Path, without: Sequence[str] = _OURS) -> dict[str, str]:
    """Every file of a repository but what is ours to write, with a digest of its bytes, mode and target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith(tuple(without)) and not path.is_dir():
            data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            found[name] = hashlib.sha256(data).hexdigest() + oct(path.lstat().st_mode)
    return found
