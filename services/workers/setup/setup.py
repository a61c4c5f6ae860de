"""Setup itself: runs a recipe once in the sandbox, keeps what it made, and hands it to every checkout."""

import asyncio
import fcntl
import os
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from services.workers.sandbox import Command, CommandResult, Limits, Sandbox, SandboxError, shell
from services.workers.setup.cache import (
    STORES,
    Made,
    harvest,
    is_made,
    listing,
    read_made,
    store_places,
    write_made,
)
from services.workers.setup.environment import EVERYWHERE, Environment
from services.workers.setup.errors import SetupFailed
from services.workers.setup.named import named_environment
from services.workers.setup.operator import OperatorSettings
from services.workers.setup.recipe import ASKS_CARGO, Recipe, find_recipe, recipe_for_command
from services.workers.setup.toolchain import Toolchain

GIB = 1 << 30
ROOMY = Limits(processes=1024, memory=6 * GIB, file_size=4 * GIB, scratch=2 * GIB, output=256 * 1024)
PARTS = ("tree", "venv", "python", "home", *STORES)  # of a place in the cache, what commands may write
LOCK_PAUSE = 0.1  # seconds between two tries for another process's lock


class Setup:
    """Makes environments and keeps them in `cache`, a folder of the worker's own.

    `network`: whether setup commands have it. `timeout` is for one whole setup, in seconds.
        `tools` names the folder of the cache in which the toolchain is laid out.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        cache: Path,
        toolchain: Toolchain,
        operator: OperatorSettings | None = None,
        *,
        network: bool = True,
        timeout: float = 1200.0,
        tools: str = "tools",
    ) -> None:
        self.sandbox = sandbox
        self.cache = cache
        self.toolchain = toolchain
        self.operator = operator or OperatorSettings()
        self.network = network
        self.timeout = timeout
        self._tools = cache / tools
        self._others: dict[Toolchain, Setup] = {}
        self._known: dict[str, Environment] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def prepare(
        self,
        checkout: Path,
        *,
        verification: str = "",
        command: str = "",
        paths: Sequence[str] = (),
        repository: str = "",
    ) -> Environment:
        """The environment for checkouts like this one.

        With `paths` (folders of the repository's own working tree, relative to `repository`) they are
        used as they are, and nothing is run. Else `command` is run, or what the checkout's files tell, in
        a copy of `checkout`, unless that was done before. Cancelled, it kills the command. Raises
        SetupFailed.
        """
        if ASKS_CARGO.search(command or verification):
            toolchain = self.toolchain.with_rust_of(checkout)
            if toolchain != self.toolchain:
                other = self._others.setdefault(toolchain, self._with(toolchain))
                return await other.prepare(
                    checkout, verification=verification, command=command, paths=paths, repository=repository
                )
        self.toolchain.lay_out(self._tools)
        if paths:
            return self._with_tools(named_environment(repository, paths))
        if command:
            recipe = recipe_for_command(checkout, command)
        else:
            recipe = find_recipe(
                checkout, verification, "python -m pip" if self.toolchain.has_pip else "uv pip"
            )
        if recipe.is_empty:
            return self._with_tools(Environment())
        digest = recipe.digest(f"{self.toolchain.identity} {self.cache}")
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:
            if digest not in self._known or not is_made(self.cache / digest):
                async with _held(self.cache / f"{digest}.lock"):
                    made = read_made(self.cache / digest) or await self._make(checkout, recipe, digest)
                trusted = (self.cache / digest, *self.toolchain.readable)
                environment = made.environment(digest, self.cache / digest, trusted)
                self._known[digest] = self._with_tools(environment)
        return self._known[digest]

    def _with(self, toolchain: Toolchain) -> "Setup":
        """The same setup with another toolchain."""
        return Setup(
            self.sandbox,
            self.cache,
            toolchain,
            self.operator,
            network=self.network,
            timeout=self.timeout,
            tools=f"tools-{len(self._others) + 1}",
        )

    def _with_tools(self, environment: Environment) -> Environment:
        readable = (*environment.readable, self._tools, *self.toolchain.readable)
        return replace(environment, path=(*environment.path, self._tools), readable=readable)

    async def _make(self, checkout: Path, recipe: Recipe, digest: str) -> Made:
        """Make what `recipe` tells; what an earlier try left has no record, and goes."""
        place = self.cache / digest
        tree = place / "tree"
        deadline = asyncio.get_running_loop().time() + self.timeout
        if place.exists():
            await self._own(("rm", "-rf", "--", str(place)), self.cache)
        for part in PARTS:
            (place / part).mkdir(parents=True)
        self._give_settings(place / "home")
        try:
            await self._own(("cp", "-a", "--", f"{checkout}/.", str(tree)), place, readable=(checkout,))
            before = listing(tree)
            if recipe.python:
                await self._step(place, self._venv_line(place / "venv"), tree, deadline)
            for step in recipe.steps:
                await self._step(place, step.line, tree / step.folder, deadline)
            made, rest = harvest(place, before)
            for start in range(0, len(rest), 1000):
                await self._own(("rm", "-rf", "--", *map(str, rest[start : start + 1000])), place)
            await self._own(("rm", "-rf", "--", str(place / "home")), place)
        except SetupFailed:
            await self._own(("rm", "-rf", "--", str(place)), self.cache)
            raise
        write_made(place, made)
        return made

    def _venv_line(self, venv: Path) -> str:
        """The line that makes a Python environment with pip; to copy pip takes a tenth of installing it."""
        place = shlex.quote(str(venv))
        if self.toolchain.pip is not None:
            pip = shlex.quote(str(self.toolchain.pip))
            return f"python -m venv --without-pip {place} && cp -a {pip} {place}/lib/python3*/site-packages/"
        if self.toolchain.has_venv:
            return f"python -m venv {place}"
        if self.toolchain.uv is None:
            raise SetupFailed(
                "this Python cannot make an environment: install python3-venv (Debian) or uv, then try again"
            )
        return shlex.join(("uv", "venv", "--quiet", "--python", str(self.toolchain.python), str(venv)))

    def _give_settings(self, home: Path) -> None:
        for place, file in self.operator.files.items():
            link = home / place
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)

    def _variables(self, place: Path) -> Mapping[str, str]:
        home = str(place / "home")
        return {
            **EVERYWHERE,
            "PYTHONDONTWRITEBYTECODE": "",
            **self.operator.env,
            "HOME": home,
            "TMPDIR": home,
            **({"VIRTUAL_ENV": str(place / "venv")} if (place / "venv" / "pyvenv.cfg").exists() else {}),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_INPUT": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "UV_CACHE_DIR": f"{home}/uv",
            "UV_LINK_MODE": "copy",
            "UV_COMPILE_BYTECODE": "1",
            "UV_PROJECT_ENVIRONMENT": str(place / "venv"),
            "UV_PYTHON_INSTALL_DIR": str(place / "python"),
            "NPM_CONFIG_CACHE": f"{home}/npm",
            **store_places(place),
            "GOFLAGS": "-modcacherw -buildvcs=false",  # so that what it fetched can be removed
            "SETUPTOOLS_SCM_PRETEND_VERSION": "0.0.0",  # the tree has no git directory to ask
        }

    async def _step(self, place: Path, line: str, folder: Path, deadline: float) -> None:
        """Run one line of a setup. Raises SetupFailed where it fails."""
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise SetupFailed(f"setup did not end within {self.timeout:g} s", line)
        command = Command(
            argv=shell(line),
            cwd=folder,
            writable=tuple(place / part for part in PARTS),  # never the record beside them
            readable=(self._tools, *self.toolchain.readable, *self.operator.readable),
            path=(place / "venv" / "bin", self._tools),
            env=self._variables(place),
            network=self.network,
            timeout=left,
            limits=ROOMY,
        )
        result = await self._run(command)
        if result.exit_code != 0:
            raise SetupFailed(
                _reason(result, self.network, self.timeout), line, result.exit_code, result.output
            )

    async def _own(self, argv: tuple[str, ...], folder: Path, readable: tuple[Path, ...] = ()) -> None:
        """Run a program of our own on the cache. Raises SetupFailed."""
        result = await self._run(
            Command(argv=argv, cwd=folder, writable=(folder,), readable=readable, timeout=600, limits=ROOMY)
        )
        if result.exit_code != 0:
            raise SetupFailed(
                "cannot work in the cache of setup", " ".join(argv[:4]), result.exit_code, result.output
            )

    async def _run(self, command: Command) -> CommandResult:
        try:
            return await self.sandbox.run(command)
        except SandboxError as problem:
            raise SetupFailed(str(problem), command.argv[-1]) from problem


def _reason(result: CommandResult, network: bool, timeout: float) -> str:
    if result.timed_out:
        return f"setup did not end within {timeout:g} s"
    if result.exceeded:
        return f"a setup command needed more {result.exceeded} than it may have"
    return f"a setup command failed (exit code {result.exit_code})" + ("" if network else ", without network")


@asynccontextmanager
async def _held(path: Path) -> AsyncIterator[None]:
    """Hold a lock that other processes respect and that ends with this one. The loop stays free."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_PAUSE)
        yield
    finally:
        os.close(fd)
