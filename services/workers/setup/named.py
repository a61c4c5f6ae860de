"""Folders that the repository's own working tree holds already, used as they are."""

import os
from collections.abc import Sequence
from pathlib import Path

from services.workers.setup.cache import modules_links, venv_parts
from services.workers.setup.environment import Environment
from services.workers.setup.errors import SetupFailed


def named_environment(repository: str, paths: Sequence[str]) -> Environment:
    """The environment of existing folders (relative to the repository's working tree), such as `.venv`.

    A Python environment comes onto PATH; a `node_modules` is laid out in each checkout; anything else is
    linked. Raises SetupFailed where a folder is not there, or the repository is not one of this machine.
    """
    root = Path(os.path.realpath(repository.removeprefix("file://")))
    if not repository or not root.is_dir():
        raise SetupFailed(
            f"setup paths {', '.join(paths)} are folders of the repository's own working tree, but"
            f" {repository or 'the repository'} is no folder of this machine: name a setup command instead"
        )
    path: list[Path] = []
    readable: list[Path] = []
    env: dict[str, str] = {}
    links: list[tuple[str, str]] = []
    for name in paths:
        place = Path(os.path.realpath(root / name))
        if not place.exists() or not place.is_relative_to(root):
            raise SetupFailed(
                f"setup path {name} is not in {root}: make it there, or name a setup command instead"
            )
        readable.append(place)
        if (place / "pyvenv.cfg").is_file():
            programs, interpreters, env = venv_parts(place)
            path += programs
            readable += interpreters
        if place.name == "node_modules":
            links += modules_links(place, name, root)
        else:
            links.append((name, str(place)))
    python = bool(env)
    sources = ("src", ".") if python and (root / "src").is_dir() else (".",) if python else ()
    return Environment("", tuple(path), tuple(readable), env, sources, tuple(links))
