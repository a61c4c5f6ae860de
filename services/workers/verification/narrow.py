"""Narrowing a verification to some test files, for an agent that wants an answer soon."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from services.workers.verification.runners import PREFIX

SHELL = re.compile(r"[;&|<>`$(){}\n]")


def narrowed(command: str, paths: Sequence[str], checkout: Path) -> str | None:
    """`command` run on `paths` (of the checkout, relative) only; None where it cannot be narrowed.

    It can where it is a plain call of pytest, `npm test` or `go test ./...` (of each module), where the
    folders of the paths are the packages. Paths that it names already give way.
    """
    if not paths or SHELL.search(command):
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    head = _pytest_head(words)
    if head:
        options = [word for word in words[head:] if not _names_tests(word, checkout)]
        return shlex.join([*words[:head], *options, *paths])
    packages = [word for word in words[2:] if not word.startswith("-")]
    if words[:2] == ["go", "test"] and packages and all(word.endswith("/...") for word in packages):
        folders = dict.fromkeys(str(PurePosixPath(path).parent) for path in paths)
        meant = [f"./{folder}" if folder != "." else "." for folder in folders]
        return shlex.join([*(word for word in words if word not in packages), *meant])
    if words[:1] == ["npm"] and ("test" in words or "t" in words):
        found = PREFIX.search(command)
        folder = (
            PurePosixPath((found["a"] or found["b"] or ".").strip("'\"")) if found else PurePosixPath(".")
        )
        below = [PurePosixPath(path) for path in paths]
        if not all(path.is_relative_to(folder) for path in below):
            return None
        inside = [str(path.relative_to(folder)) for path in below]
        return shlex.join([*words, *([] if "--" in words else ["--"]), *inside])
    return None


def _pytest_head(words: list[str]) -> int:
    """How many words call pytest, before its arguments; 0 where they do not."""
    if words and PurePosixPath(words[0]).name in ("pytest", "py.test"):
        return 1
    if (
        len(words) > 2
        and PurePosixPath(words[0]).name.startswith("python")
        and words[1:3] == ["-m", "pytest"]
    ):
        return 3
    return 0


def _names_tests(word: str, checkout: Path) -> bool:
    return not word.startswith("-") and (checkout / word.partition("::")[0]).exists()
