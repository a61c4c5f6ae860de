"""What a setup made, as the cache keeps it: found in its tree, recorded last, read back."""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from services.workers.setup.environment import Environment
from services.workers.setup.toolchain import interpreter_folder

RECORD = "made.json"
LEAVINGS = re.compile(
    r"__pycache__|build|dist|\.pytest_cache|\.mypy_cache|\.ruff_cache|.*\.egg-info|.*\.pyc|.*\.log"
)


@dataclass(frozen=True, slots=True)
class Made:
    """`venv` is a Python environment in the place, or empty; `stores` are those of STORES that hold something
    there; the rest is as in Environment.
    """

    venv: str
    sources: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    stores: tuple[str, ...] = ()

    def environment(self, digest: str, place: Path, trusted: Iterable[Path]) -> Environment:
        """The environment that this is, made in `place`. An interpreter is readable only inside `trusted`:
        where a link leads was up to the commands."""
        path, readable, env = venv_parts(place / self.venv) if self.venv else ((), (), {})
        readable = tuple(
            folder for folder in readable if any(folder.is_relative_to(root) for root in trusted)
        )
        for store in self.stores:
            env = {**env, **offline(store, place)}
        return Environment(digest, path, (place, *readable), env, self.sources, self.links)


STORES = ("go", "cargo")


def store_places(place: Path) -> dict[str, str]:
    """The variables that have Go and Rust keep in `place` what they fetch and build."""
    go = place / "go"
    return {"GOMODCACHE": f"{go}/mod", "GOCACHE": f"{go}/build", "CARGO_HOME": f"{place}/cargo"}


def offline(store: str, place: Path) -> dict[str, str]:
    """How a command uses a store that it can only read: nothing is fetched, nothing is written there."""
    places = store_places(place)
    if store == "cargo":
        return {"CARGO_HOME": places["CARGO_HOME"], "CARGO_NET_OFFLINE": "true"}
    return {
        "GOMODCACHE": places["GOMODCACHE"],
        "GOCACHE": places["GOCACHE"],
        "GODEBUG": "goindex=0",  # what Go notes of old files it must write, or it fails
        "GOPROXY": "off",
        "GOFLAGS": "-buildvcs=false",
    }


def venv_parts(venv: Path) -> tuple[tuple[Path, ...], tuple[Path, ...], dict[str, str]]:
    """How a command uses a Python environment: what is on PATH, what it must read, its variables."""
    python = venv / "bin" / "python"
    readable = (interpreter_folder(python),) if python.exists() else ()
    return (venv / "bin",), readable, {"VIRTUAL_ENV": str(venv)}


def listing(tree: Path) -> frozenset[str]:
    """The entries of a tree and of the folders in it, relative."""
    names: set[str] = set()
    for folder in (tree, *(entry for entry in tree.iterdir() if entry.is_dir() and not entry.is_symlink())):
        names |= {os.path.relpath(entry.path, tree) for entry in os.scandir(folder)}
    return frozenset(names)


def harvest(place: Path, before: frozenset[str]) -> tuple[Made, list[Path]]:
    """What setup commands made in the tree of a place, which held `before`, and all else there.

    The latter must go: an editable install or a workspace link would lead into it from every checkout,
    which has its own. What is removed may be named in `sources` and `links`, relative to a checkout.
    """
    tree, venv = place / "tree", place / "venv"
    after = listing(tree)
    new = sorted(name for name in after - before if not LEAVINGS.fullmatch(os.path.basename(name)))
    made = [name for name in new if os.path.dirname(name) not in new]
    venv = next((tree / name for name in made if (tree / name / "pyvenv.cfg").is_file()), venv)
    links = tuple(link for name in made for link in _links(tree, name))
    stores = tuple(store for store in STORES if any((place / store).iterdir()))
    if (venv / "pyvenv.cfg").is_file():
        result = Made(os.path.relpath(venv, place), _sources(tree, venv), links, stores)
    else:
        result = Made("", (), links, stores)
    return result, _rest(tree, after, made)


def modules_links(modules: Path, place: str, root: Path) -> list[tuple[str, str]]:
    """Links that lay out a node_modules folder at `place` of a checkout, entry by entry.

    So the folder itself can be written (tools keep caches there) and its packages cannot. An entry that
    links to a package of the project's own tree, which `root` is, leads to the checkout's own.
    """
    links: list[tuple[str, str]] = []
    for entry in sorted(modules.iterdir()):
        inner = entry.name.startswith("@") and entry.is_dir() and not entry.is_symlink()
        for item in sorted(entry.iterdir()) if inner else [entry]:
            target = Path(os.path.realpath(item))
            own = item.is_symlink() and target.is_relative_to(root) and not target.is_relative_to(modules)
            at = f"{place}/{item.relative_to(modules)}"
            links.append((at, str(target.relative_to(root)) if own else str(item)))
    return links


def is_made(place: Path) -> bool:
    """Whether `place` holds what a setup made, to its end."""
    return (place / RECORD).is_file()


def read_made(place: Path) -> Made | None:
    """The record of what was made in `place`; None where nothing was, or not to its end."""
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        links = tuple((at, to) for at, to in record["links"])
        return Made(record["venv"], tuple(record["sources"]), links, tuple(record["stores"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_made(place: Path, made: Made) -> None:
    """Record what was made in `place`: from now on it counts."""
    temporary = place / f"{RECORD}.new"
    temporary.write_text(json.dumps(asdict(made)), encoding="utf-8")
    temporary.rename(place / RECORD)


def _links(tree: Path, name: str) -> Iterable[tuple[str, str]]:
    is_modules = os.path.basename(name) == "node_modules"
    return modules_links(tree / name, name, tree) if is_modules else [(name, str(tree / name))]


def _sources(tree: Path, venv: Path) -> tuple[str, ...]:
    """The folders of the project that its editable installs named, then `src` and the root."""
    named: list[str] = []
    for file in sorted(venv.glob("lib/python3*/site-packages/*.pth")):
        if file.is_symlink() or not file.is_file():
            continue
        lines = file.read_text(errors="replace").splitlines()
        named += [os.path.relpath(line, tree) for line in lines if Path(line).is_relative_to(tree)]
    guessed = [name for name in ("src", ".") if (tree / name).is_dir()]
    return tuple(dict.fromkeys([*named, *guessed]))


def _rest(tree: Path, after: frozenset[str], made: list[str]) -> list[Path]:
    """What is not in `made`, at the root or in a folder that holds something of `made`."""
    kept = set(made)
    holding = {os.path.dirname(name) for name in made} - {""}
    top = [name for name in after if os.path.dirname(name) == "" and name not in kept | holding]
    below = [name for name in after if os.path.dirname(name) in holding and name not in kept]
    return [tree / name for name in sorted([*top, *below])]
