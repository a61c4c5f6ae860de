"""A git repository of this machine, as the command line looks at it: nothing of it is changed here."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 120.0
_SHOWN = 3
# What git leaves in its folder while something is under way, and what that is.
_UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}


class GitFailed(Exception):
    """git could not do it; the text is git's own."""


def git(*arguments: str, at: Path | None = None, stdin: str = "") -> str:
    """Run git to its end, with neither hooks nor prompts; its stdout. Raises GitFailed."""
    where = ("-C", str(at)) if at else ()
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *where, *arguments]
    environment = os.environ | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_TIMEOUT,
        )
    except FileNotFoundError:
        raise GitFailed("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git {arguments[0]} did not end in {_TIMEOUT:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        why = next((line for line in said if line.startswith("fatal: ")), said[-1])
        raise GitFailed(why.removeprefix("fatal: ").removeprefix("error: "))
    return done.stdout


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: its git folder, and the root of its working tree, None where it is bare."""

    git_dir: Path
    root: Path | None

    def git(self, *arguments: str, stdin: str = "") -> str:
        """Run git on it. Raises GitFailed."""
        return git(*arguments, at=self.root or self.git_dir, stdin=stdin)

    def head(self) -> str:
        """The commit of HEAD; empty where there is none."""
        try:
            return self.git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
        except GitFailed:
            return ""

    def files(self) -> list[str]:
        """Paths of the files that git tracks or would."""
        listed = self.git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
        return [name for name in listed.split("\0") if name]

    def warnings(self) -> Iterator[str]:
        """What of the working tree a run will not see."""
        if self.root is None:
            return
        for name, what in _UNDER_WAY.items():
            if (self.git_dir / name).exists():
                yield f"{what} is under way in {self.root}: a run starts from what is committed"
                break
        changed = [
            line[3:] for line in self.git("status", "--porcelain", "-z").split("\0") if line[2:3] == " "
        ]
        if changed:
            shown = ", ".join(changed[:_SHOWN]) + (" …" if len(changed) > _SHOWN else "")
            yield f"what is not committed in {self.root} is not seen by a run: {shown}"


def repository_at(path: Path) -> Repository:
    """The repository that a folder belongs to. Raises GitFailed."""
    asked = ("--absolute-git-dir", "--is-inside-work-tree")
    git_dir, inside = git("rev-parse", *asked, at=path).splitlines()
    if inside != "true":
        return Repository(Path(git_dir), None)
    return Repository(Path(git_dir), Path(git("rev-parse", "--show-toplevel", at=path).rstrip("\n")))


def why_unfit(path: Path) -> tuple[str, str] | None:
    """Why no run can be made of a path of this machine, and how to mend that; None where one can."""
    try:
        repository = repository_at(path)
    except GitFailed as error:
        if path.is_dir() and path.stat().st_uid != os.geteuid():
            mend = (
                "run codeframe as its owner, or on a clone of your own "
                "(its git reads no settings of yours, so safe.directory does not help)"
            )
            return f"{path} belongs to another user ({error})", mend
        return f"{path}: {error}", "name the folder of one, or make one with `git init`, and commit"
    if repository.root not in (None, path):
        return (
            f"{path} is a folder of the repository {repository.root}",
            f"name that: --repo {repository.root}",
        )
    if not repository.head():
        return f"{path} has no commit", "make one: a run starts from a commit"
    return None
