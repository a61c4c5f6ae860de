"""What a sandboxed command can see, write and reach, in each mode."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.workers.sandbox import (
    Command,
    CommandResult,
    Limits,
    Mode,
    Sandbox,
    SandboxError,
    shell,
)
from services.workers.setup import find_toolchain
from tests.sandboxes import each_mode

PYTHON = Path(sys.base_prefix)
INTERPRETER = str(PYTHON / "bin" / f"python3.{sys.version_info.minor}")


@pytest.fixture(params=each_mode(Mode.BUBBLEWRAP, Mode.SANDLOCK))
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox of each mode that works here, whose hidden data folder is `tmp_path / "data"`."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "secret").write_text("the worker's own")
    box = await Sandbox.open(request.param, scratch=data / "scratch", hidden=(data, Path.home()))
    yield box
    assert list(box.scratch.iterdir()) == [], "a private /tmp was left behind"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "data" / "trees" / "one"
    tree.mkdir(parents=True)
    return tree


async def sh(sandbox: Sandbox, tree: Path, line: str, **more: object) -> CommandResult:
    return await sandbox.run(Command(argv=shell(line), cwd=tree, writable=(tree,), **more))  # type: ignore[arg-type]


async def python(sandbox: Sandbox, tree: Path, code: str, **more: object) -> CommandResult:
    argv = (INTERPRETER, "-I", "-c", code)
    return await sandbox.run(Command(argv=argv, cwd=tree, writable=(tree,), readable=(PYTHON,), **more))  # type: ignore[arg-type]


async def test_auto_finds_a_mode_that_confines(tmp_path: Path) -> None:
    box = await Sandbox.open("auto", scratch=tmp_path / "scratch")
    assert box.mode in (Mode.BUBBLEWRAP, Mode.SANDLOCK)


async def test_an_unknown_choice_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 'docker'"):
        await Sandbox.open("docker", scratch=tmp_path / "scratch")


async def test_without_confinement_only_on_the_operators_word(tmp_path: Path) -> None:
    box = await Sandbox.open("none", scratch=tmp_path / "scratch")
    result = await box.run(Command(argv=("/bin/echo", "hello"), cwd=tmp_path))
    assert (result.mode, result.output) == (Mode.NONE, "hello\n")


async def test_output_and_exit_code_come_back(sandbox: Sandbox, tree: Path) -> None:
    result = await sh(sandbox, tree, "echo out; echo err >&2; exit 7")
    assert (result.exit_code, result.output, result.mode) == (7, "out\nerr\n", sandbox.mode)
    assert 0 < result.duration < 60


async def test_a_command_that_a_signal_ends(sandbox: Sandbox, tree: Path) -> None:
    result = await sh(sandbox, tree, "kill -9 $$")
    assert result.exit_code == 137
    assert not result.timed_out


async def test_a_program_that_is_not_there(sandbox: Sandbox, tree: Path) -> None:
    result = await sandbox.run(Command(argv=("no-such-program",), cwd=tree, writable=(tree,)))
    assert result.exit_code == 127
    assert "no-such-program" in result.output


async def test_a_folder_that_is_not_there_is_an_error(sandbox: Sandbox, tree: Path) -> None:
    with pytest.raises(SandboxError, match="missing does not exist"):
        await sandbox.run(Command(argv=("true",), cwd=tree / "missing"))


async def test_only_the_writable_tree_can_be_written(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    outside, other = tmp_path / "outside", tree.parent / "two"
    outside.mkdir()
    other.mkdir()
    line = (
        f"echo in > in; mkdir -p d/e; echo x > {outside}/f; echo x > {other}/f; echo x > /usr/f; echo x > /f"
    )
    await sh(sandbox, tree, line, readable=(outside,))
    assert (tree / "in").read_text() == "in\n"
    assert (tree / "d" / "e").is_dir()
    assert not any(Path(place).exists() for place in (outside / "f", other / "f", "/usr/f", "/f"))


async def test_hidden_files_cannot_be_read_even_by_root(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    other = tree.parent / "two"
    other.mkdir()
    (other / "code").write_text("another attempt's")
    (tmp_path / "shared" / "deep").mkdir(parents=True)
    (tmp_path / "shared" / "deep" / "hidden").write_text("not for you")
    (tmp_path / "shared" / "seen").write_text("seen")
    line = f"cd {tmp_path}; cat data/secret {other}/code shared/deep/hidden /etc/shadow; cat shared/seen"
    result = await sh(
        sandbox, tree, line, readable=(tmp_path / "shared",), hidden=(tmp_path / "shared" / "deep",)
    )
    assert result.output.endswith("seen")
    for secret in ("the worker's own", "another attempt's", "not for you", "root:"):
        assert secret not in result.output


async def test_the_environment_is_built_from_nothing(
    sandbox: Sandbox, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    result = await sh(sandbox, tree, "env", env={"ASKED": "yes"})
    names = {line.partition("=")[0] for line in result.output.splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "HOME", "LANG", "TMPDIR", "ASKED"}
    code = f"print([open(f'/proc/{{p}}/environ').read() for p in ({os.getpid()}, 1)])"
    assert "sk-secret" not in (await python(sandbox, tree, code)).output
    assert "sk-secret" not in (await sh(sandbox, tree, "cat /proc/*/environ")).output


async def test_home_and_tmp_are_private_and_empty(sandbox: Sandbox, tree: Path) -> None:
    first = await sh(
        sandbox, tree, 'echo one > "$TMPDIR/left" && echo two > "$HOME/left" && ls "$TMPDIR" "$HOME"'
    )
    assert first.exit_code == 0, first.output
    second = await sh(sandbox, tree, 'cat "$TMPDIR/left" "$HOME/left"')
    assert "one" not in second.output
    assert "two" not in second.output


async def test_no_network_not_even_to_the_hosts_loopback(sandbox: Sandbox, tree: Path) -> None:
    reached = asyncio.Event()

    async def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('reached')"
        result = await python(sandbox, tree, code)
        assert result.exit_code == 1
        assert "reached" not in result.output.splitlines()
        assert not reached.is_set()
        with_network = await python(sandbox, tree, code, network=True)
        assert with_network.output == "reached\n"
        await reached.wait()


async def test_the_hosts_sockets_cannot_be_reached(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "control"
    for address in (str(path), f"\0codeframe-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(address)
            server.listen()
            code = f"import socket; socket.socket(socket.AF_UNIX).connect({address!r}); print('reached')"
            assert (await python(sandbox, tree, code)).exit_code == 1


ASYNCIO = """
import asyncio
async def main(): await asyncio.start_server(print, "127.0.0.1", 0)
asyncio.run(main())
"""
RAW = """
import socket
def bind(): socket.socket().bind(("127.0.0.1", 0))
bind()
"""
NODE = "require('net').createServer().listen(0, '127.0.0.1', function () { this.close() })"


@pytest.mark.parametrize("code", [ASYNCIO, RAW, NODE], ids=["asyncio", "socket", "node"])
async def test_listening_works_on_a_private_loopback_or_is_told(
    sandbox: Sandbox, tree: Path, code: str
) -> None:
    (tree / "serve").write_text(code)
    toolchain = find_toolchain()
    program = toolchain.node if code is NODE else INTERPRETER
    result = await sh(sandbox, tree, f"{program} serve", readable=toolchain.readable)
    if sandbox.mode is Mode.BUBBLEWRAP:
        assert (result.output, result.exit_code, result.bind_denied) == ("", 0, False)
    else:
        assert (result.exit_code, result.bind_denied) == (1, True), result.output


@pytest.mark.parametrize("way", ["fastopen", "mptcp", "datagram"])
async def test_no_way_around_the_missing_network(sandbox: Sandbox, tree: Path, way: str) -> None:
    code = {
        "fastopen": "socket.socket().sendto(b'x', socket.MSG_FASTOPEN, address)",
        "mptcp": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(address)",
        "datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', address)",
    }[way]
    kind = socket.SOCK_DGRAM if way == "datagram" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        if kind == socket.SOCK_STREAM:
            server.listen()
        await python(sandbox, tree, f"import socket; address = {server.getsockname()}; {code}")
        with pytest.raises(BlockingIOError):
            server.accept() if kind == socket.SOCK_STREAM else server.recv(1)


async def test_the_git_file_of_a_tree_cannot_be_written(sandbox: Sandbox, tree: Path) -> None:
    (tree / ".git").write_text("gitdir: elsewhere")
    line = "echo evil > .git; rm -rf .git; mv .git g; mkdir n; mv n .git; ln -sf /tmp .git; echo done"
    result = await sh(sandbox, tree, line)
    assert result.output.endswith("done\n")
    assert (tree / ".git").read_text() == "gitdir: elsewhere"


async def test_the_middle_of_a_long_output_is_left_out(sandbox: Sandbox, tree: Path) -> None:
    line = "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last"
    result = await sh(sandbox, tree, line, limits=Limits(output=4000))
    assert result.output.startswith("first\nxxx")
    assert result.output.endswith("xxx\nlast\n")
    assert result.dropped == 1000000 + len("first\n\nlast\n") - 4000
    assert f"{result.dropped} bytes left out" in result.output
    assert len(result.output) < 4100


async def test_links_stand_while_the_command_runs(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "left-pad").write_text("pad")
    links = {tree / "web" / "node_modules": modules}
    result = await sh(
        sandbox,
        tree,
        "cat web/node_modules/left-pad; rm web/node_modules/*",
        readable=(modules,),
        links=links,
    )
    assert result.output.startswith("pad")
    assert (modules / "left-pad").exists()
    assert list(tree.iterdir()) == []


async def test_many_at_once(sandbox: Sandbox, tree: Path) -> None:
    results = await asyncio.gather(*(sh(sandbox, tree, f"echo {n}") for n in range(8)))
    assert [result.output for result in results] == [f"{n}\n" for n in range(8)]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("argv", (), "argv must not be empty"),
        ("argv", ("a\0b",), "NUL"),
        ("cwd", Path("relative"), "relative must be an absolute path"),
        ("timeout", 0, "timeout must be positive"),
    ],
)
def test_a_command_that_makes_no_sense(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Command(**{"argv": ("true",), "cwd": Path("/")} | {field: value})  # type: ignore[arg-type]


async def test_folders_made_for_links_go_with_all_that_was_written_there(
    sandbox: Sandbox, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "modules").mkdir()
    links = {tree / "node_modules" / "left-pad": tmp_path / "modules"}
    result = await sh(
        sandbox, tree, "mkdir node_modules/.cache && echo ok > node_modules/.cache/x", links=links
    )
    assert result.exit_code == 0
    assert list(tree.iterdir()) == []


async def test_a_link_never_replaces_what_stands(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    (tree / "vendor").mkdir()
    (tree / "vendor" / "mine").write_text("mine")
    (tree / "tracked").symlink_to("vendor")
    links = {tree / "vendor": tmp_path, tree / "tracked": tmp_path}
    result = await sh(sandbox, tree, "cat vendor/mine tracked/mine", links=links)
    assert result.output == "minemine"
    assert (tree / "tracked").readlink() == Path("vendor")


async def test_a_link_never_leaves_the_tree(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "web").symlink_to(outside)
    result = await sh(sandbox, tree, "true", links={tree / "web" / "node_modules" / "x": tmp_path})
    assert "is not where it seems" in result.output
    assert list(outside.iterdir()) == []
