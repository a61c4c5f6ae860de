"""The agent's tools, on real files and real git."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from services.workers.model.conversation import ToolCall, ToolResult
from services.workers.roles.role import load_role
from services.workers.tools.toolbox import TOOLS, Toolbox
from tests.unit.workers.git_workspace import GitWorkspace, git_workspace

Call = tuple[str, dict[str, object]]


class Anywhere:
    """A write scope that refuses one file."""

    def refusal(self, path: str) -> str | None:
        return f"{path}: is not yours" if path.endswith("refused.txt") else None


class Tried:
    """All tools in a workspace."""

    def __init__(self, workspace: GitWorkspace) -> None:
        self.workspace = workspace
        self.toolbox = Toolbox(tuple(TOOLS), workspace, Anywhere())

    async def many(self, *calls: Call) -> tuple[ToolResult, ...]:
        numbered = [ToolCall(f"call_{n}", name, given) for n, (name, given) in enumerate(calls)]
        return await self.toolbox.run(numbered)

    async def ok(self, tool: str, **given: object) -> str:
        (result,) = await self.many((tool, given))
        assert not result.is_error, result.text
        return result.text

    async def error(self, tool: str, **given: object) -> str:
        before = self.workspace.files()
        (result,) = await self.many((tool, given))
        assert result.is_error, result.text
        assert self.workspace.files() == before, "a tool error wrote something"
        return result.text


@pytest.fixture
async def tried(tmp_path: Path) -> Tried:
    root = tmp_path / "workspace"
    root.mkdir()
    return Tried(await git_workspace(root))


async def test_files_are_created_with_their_folders_changed_and_deleted(tried: Tried) -> None:
    await tried.ok("create_file", path="a/b/c.txt", content="one\n")
    assert tried.workspace.files() == {"a/b/c.txt": "one\n"}
    await tried.ok("write_file", path="a/b/c.txt", content="two\n")
    await tried.ok("edit_file", path="a/b/c.txt", old_text="two", new_text="three")
    assert tried.workspace.files() == {"a/b/c.txt": "three\n"}
    await tried.ok("delete_file", path="a/b/c.txt")
    assert tried.workspace.files() == {}


async def test_missing_files_and_files_that_are_there_are_errors(tried: Tried) -> None:
    tried.workspace.put("there.txt", "kept")
    assert "already there" in await tried.error("create_file", path="there.txt", content="")
    assert "no such file" in await tried.error("write_file", path="gone.txt", content="")
    assert "no such file" in await tried.error("edit_file", path="gone.txt", old_text="a", new_text="b")
    assert "no such file" in await tried.error("delete_file", path="gone.txt")
    assert "no such file" in await tried.error("read_file", path="gone.txt")


async def test_a_file_keeps_its_mode_and_a_new_one_can_be_read(tried: Tried) -> None:
    tried.workspace.put("run.sh", "a").chmod(0o755)
    await tried.ok("write_file", path="run.sh", content="b")
    await tried.ok("create_file", path="new.txt", content="b")
    root = tried.workspace.root
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "new.txt").stat().st_mode) == 0o644


async def test_a_write_leaves_other_links_to_the_old_content_alone(tried: Tried, tmp_path: Path) -> None:
    path = tried.workspace.put("a.txt", "old")
    os.link(path, tmp_path / "outside.txt")
    await tried.ok("write_file", path="a.txt", content="new")
    assert (tmp_path / "outside.txt").read_text() == "old"


@pytest.mark.parametrize("tool", ["read_file", "create_file", "write_file", "edit_file", "delete_file"])
@pytest.mark.parametrize(
    "path",
    [
        "../out.txt",
        "/etc/hosts",
        "a/../../out.txt",
        "link/out.txt",
        ".git/config",
        "sub/.GIT/x",
        "a\0b",
        "a\nb",
    ],
)
async def test_a_path_that_leads_out_or_into_git_is_refused(
    tried: Tried, tmp_path: Path, tool: str, path: str
) -> None:
    (tmp_path / "out.txt").write_text("untouched")
    (tried.workspace.root / "link").symlink_to(tmp_path)
    given = {"content": "x", "old_text": "untouched", "new_text": "x"}
    wanted = TOOLS[tool].schema["required"]
    assert isinstance(wanted, list)
    await tried.error(tool, path=path, **{name: given[name] for name in wanted if name != "path"})
    assert (tmp_path / "out.txt").read_text() == "untouched"


async def test_a_link_inside_the_workspace_is_followed(tried: Tried) -> None:
    tried.workspace.put("real.txt", "old")
    (tried.workspace.root / "link.txt").symlink_to("real.txt")
    assert await tried.ok("write_file", path="link.txt", content="new") == "wrote real.txt"
    assert (tried.workspace.root / "link.txt").is_symlink()
    assert "symbolic link" in await tried.error("delete_file", path="link.txt")


async def test_a_link_does_not_lead_around_the_write_scope(tried: Tried) -> None:
    tried.workspace.put("refused.txt", "old")
    (tried.workspace.root / "free.txt").symlink_to("refused.txt")
    assert "not yours" in await tried.error("write_file", path="free.txt", content="new")


async def test_a_refused_batch_writes_nothing(tried: Tried) -> None:
    results = await tried.many(
        ("create_file", {"path": "a.txt", "content": "a"}),
        ("create_file", {"path": "refused.txt", "content": "b"}),
        ("create_file", {"path": "../c.txt", "content": "c"}),
        ("read_file", {"path": "a.txt"}),
    )
    assert [result.call_id for result in results] == ["call_0", "call_1", "call_2", "call_3"]
    assert all(result.is_error for result in results)
    assert "nothing was written" in results[0].text
    assert "not yours" in results[1].text
    assert "outside the workspace" in results[2].text
    assert tried.workspace.files() == {}


async def test_calls_of_one_turn_build_on_each_other(tried: Tried) -> None:
    results = await tried.many(
        ("create_file", {"path": "a.txt", "content": "one"}),
        ("edit_file", {"path": "a.txt", "old_text": "one", "new_text": "two"}),
        ("edit_file", {"path": "a.txt", "old_text": "one", "new_text": "three"}),
        ("create_file", {"path": "b.txt", "content": ""}),
    )
    assert [result.is_error for result in results] == [False, False, True, False]
    assert tried.workspace.files() == {"a.txt": "two", "b.txt": ""}


@pytest.mark.parametrize(
    ("tool", "given", "message"),
    [
        ("read_file", {}, "path is missing"),
        ("read_file", {"path": 1}, "path must be a string"),
        ("read_file", {"path": "a", "start_line": "1"}, "start_line must be an integer"),
        ("read_file", {"path": "a", "start_line": True}, "start_line must be an integer"),
        ("read_file", {"path": "a", "mode": "r"}, "mode is not known; known are: path, start_line, end_line"),
        ("create_file", {"path": "a", "content": "\ud800"}, "content is not valid Unicode at character 0"),
        ("run_tests", {"paths": "tests"}, "paths must be a list"),
        ("run_tests", {"paths": ["tests", 1]}, "paths[1] must be a string"),
        ("format_disk", {}, "there is no tool 'format_disk'; there are: list_files"),
    ],
)
async def test_a_bad_input_is_an_error_that_names_it(
    tried: Tried, tool: str, given: dict[str, object], message: str
) -> None:
    assert message in await tried.error(tool, **given)


async def test_an_input_that_is_no_object_is_an_error(tried: Tried) -> None:
    (result,) = await tried.toolbox.run([ToolCall("call", "read_file", ["a"])])  # type: ignore[arg-type]
    assert (result.is_error, result.text) == (True, "the input must be an object")


async def test_too_many_calls_at_once_are_refused(tried: Tried) -> None:
    calls: list[Call] = [("create_file", {"path": f"{n}.txt", "content": ""}) for n in range(51)]
    results = await tried.many(*calls)
    assert all(result.is_error for result in results)
    assert tried.workspace.files() == {}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=list(TOOLS))
def test_every_schema_is_strict(tool: object) -> None:
    spec = tool.spec  # type: ignore[attr-defined]
    assert spec.description
    assert spec.input_schema["additionalProperties"] is False
    assert set(spec.input_schema["required"]) <= set(spec.input_schema["properties"])
    assert all("description" in kind for kind in spec.input_schema["properties"].values())


async def test_a_range_of_lines_is_read_with_their_numbers(tried: Tried) -> None:
    tried.workspace.put("a.txt", "one\ntwo\nthree\n")
    assert await tried.ok("read_file", path="a.txt") == "1\tone\n2\ttwo\n3\tthree"
    ranged = await tried.ok("read_file", path="a.txt", start_line=2, end_line=99)
    assert ranged == "2\ttwo\n3\tthree\n[lines 2 to 3 of 3]"
    assert "has 3 lines" in await tried.error("read_file", path="a.txt", start_line=4)
    assert "has 3 lines" in await tried.error("read_file", path="a.txt", start_line=3, end_line=1)
    tried.workspace.put("empty.txt")
    assert await tried.ok("read_file", path="empty.txt") == "(an empty file)"


async def test_long_files_are_read_piece_by_piece(tried: Tried) -> None:
    tried.workspace.put("long.txt", "".join(f"{n}\n" for n in range(1, 3001)))
    assert (await tried.ok("read_file", path="long.txt")).endswith("2000\t2000\n[lines 1 to 2000 of 3000]")
    rest = await tried.ok("read_file", path="long.txt", start_line=2001)
    assert rest.startswith("2001\t2001\n")
    tried.workspace.put("wide.txt", "x" * 200_000)
    assert "characters left out" in await tried.ok("read_file", path="wide.txt")


async def test_what_is_no_text_is_not_read(tried: Tried) -> None:
    tried.workspace.put("binary", b"a\0b")
    tried.workspace.put("latin", b"gr\xfcn")
    tried.workspace.put("huge", b"x" * (1024 * 1024 + 1))
    os.mkfifo(tried.workspace.root / "pipe")
    (tried.workspace.root / "folder").mkdir()
    assert "binary" in await tried.error("read_file", path="binary")
    assert "not UTF-8 text (at byte 2)" in await tried.error(
        "edit_file", path="latin", old_text="a", new_text="b"
    )
    assert "over 1 MiB" in await tried.error("read_file", path="huge")
    assert "not a regular file" in await tried.error("read_file", path="pipe")
    assert "Is a directory" in await tried.error("read_file", path="folder")
    assert "not a regular file" in await tried.error("write_file", path="folder", content="")
    assert "over 1 MiB" in await tried.error("create_file", path="big", content="x" * (1024 * 1024 + 1))


async def test_a_file_cannot_be_a_folder(tried: Tried) -> None:
    tried.workspace.put("file", "")
    await tried.error("create_file", path="file/below.txt", content="x")
    await tried.error("create_file", path="n" * 300, content="x")


async def test_an_edit_needs_exactly_one_match(tried: Tried) -> None:
    tried.workspace.put("a.py", "def load(path):\n    return 1\n\ndef save(path):\n    return 1\n")
    twice = await tried.error("edit_file", path="a.py", old_text="    return 1", new_text="    return 2")
    assert "2 times, at lines 2, 5" in twice
    none = await tried.error("edit_file", path="a.py", old_text="def  load(paths):", new_text="x")
    assert "The nearest lines" in none
    assert "1\tdef load(path):" in none
    assert "No line is like" in await tried.error("edit_file", path="a.py", old_text="%%%%%%%%", new_text="x")
    assert "must not be empty" in await tried.error("edit_file", path="a.py", old_text="", new_text="x")
    same = await tried.error("edit_file", path="a.py", old_text="def load", new_text="def load")
    assert "nothing would change" in same
    done = await tried.ok("edit_file", path="a.py", old_text="def save(path):\n    return 1", new_text="")
    assert done == "edited a.py at line 4"


async def test_overlapping_matches_are_two(tried: Tried) -> None:
    tried.workspace.put("a.txt", "aaa")
    assert "2 times" in await tried.error("edit_file", path="a.txt", old_text="aa", new_text="b")


async def test_the_nearest_lines_are_few_and_the_most_alike_first(tried: Tried) -> None:
    tried.workspace.put("a.py", "".join(f"total_{n} = load(path, {n})\n" for n in range(50)))
    none = await tried.error("edit_file", path="a.py", old_text="total_7=load(path,7)", new_text="x")
    assert none.splitlines()[1] == "8\ttotal_7 = load(path, 7)"
    assert len(none.splitlines()) == 4


async def test_a_great_many_matches_are_not_all_counted(tried: Tried) -> None:
    tried.workspace.put("a.txt", "a" * 1000)
    many = await tried.error("edit_file", path="a.txt", old_text="aa", new_text="b")
    assert "20 times or more, at lines 1, 1" in many


async def test_an_edit_keeps_windows_line_ends(tried: Tried) -> None:
    path = tried.workspace.put("a.txt", b"one\r\ntwo\r\n")
    await tried.ok("edit_file", path="a.txt", old_text="one\ntwo\n", new_text="three\nfour\n")
    assert path.read_bytes() == b"three\r\nfour\r\n"


async def test_files_are_listed_new_ones_too_but_not_ignored_or_deleted_ones(tried: Tried) -> None:
    for name in ("b.txt", "a/x.txt", "gone.txt", "ignored.log", ".gitignore"):
        tried.workspace.put(name, "*.log\n")
    await tried.workspace.git("add", "b.txt", "gone.txt")
    (tried.workspace.root / "gone.txt").unlink()
    assert await tried.ok("list_files") == ".gitignore\na/x.txt\nb.txt"
    assert await tried.ok("list_files", path="a") == "a/x.txt"
    assert "no such folder" in await tried.error("list_files", path="nowhere")


async def test_a_name_full_of_magic_is_only_a_name(tried: Tried) -> None:
    tried.workspace.put("[ab]*/x.txt", "hit")
    tried.workspace.put("a/y.txt", "hit")
    assert await tried.ok("list_files", path="[ab]*") == "[ab]*/x.txt"
    assert await tried.ok("grep", pattern="hit", path="[ab]*") == "[ab]*/x.txt:1:hit"


async def test_grep_finds_lines_in_files_of_text(tried: Tried) -> None:
    tried.workspace.put("a.py", "def load():\n    pass\n")
    tried.workspace.put("b.bin", b"def load\0")
    assert await tried.ok("grep", pattern="def (load|save)") == "a.py:1:def load():"
    assert await tried.ok("grep", pattern="nothing here") == "(no match)"
    assert "pattern" in await tried.error("grep", pattern="(")
    assert "pattern" in await tried.error("grep", pattern="")
    assert await tried.ok("grep", pattern="--open-files-in-pager=touch x") == "(no match)"


async def test_many_matches_are_clipped(tried: Tried) -> None:
    tried.workspace.put("a.txt", "hit\n" * 400)
    found = await tried.ok("grep", pattern="hit")
    assert found.count("hit") == 300
    assert "only the first 300" in found


async def test_tests_are_run_as_a_whole_or_narrowed_to_paths(tried: Tried) -> None:
    tried.workspace.put("tests/test_a.py", "")
    assert await tried.ok("run_tests") == tried.workspace.test_output
    await tried.ok("run_tests", paths=["tests/../tests/test_a.py"])
    assert tried.workspace.ran == [(), ("tests/test_a.py",)]
    assert "no such file" in await tried.error("run_tests", paths=["tests/test_b.py"])
    assert "outside" in await tried.error("run_tests", paths=["../elsewhere"])
    assert len(tried.workspace.ran) == 2


async def test_long_test_output_is_clipped_in_its_middle(tried: Tried) -> None:
    tried.workspace.test_output = "first\n" + "x" * 100_000 + "\nlast"
    output = await tried.ok("run_tests")
    assert output.startswith("first\n")
    assert output.endswith("\nlast")
    assert len(output) < 31_000


async def test_a_python_outline_shows_functions_and_classes_sync_and_async(tried: Tried) -> None:
    tried.workspace.put(
        "a.py",
        "import os\n\ndef load(path: str, *, deep=False) -> int:\n    def inner(): ...\n    return 1\n\n"
        "async def fetch(): ...\n\nclass Store(Base):\n    async def get(self, key): ...\n    x = 1\n\n"
        "if os.name:\n    def other(): ...\n",
    )
    assert await tried.ok("outline", path="a.py") == (
        "3\tdef load(path: str, *, deep=False) -> int\n"
        "7\tasync def fetch()\n"
        "9\tclass Store(Base)\n"
        "10\t    async def get(self, key)\n"
        "14\tdef other()"
    )
    tried.workspace.put("broken.py", "def (:\n")
    assert "not valid Python" in await tried.error("outline", path="broken.py")
    tried.workspace.put("notes.md", "# x")
    assert "only Python and JavaScript" in await tried.error("outline", path="notes.md")


async def test_a_script_outline_shows_functions_and_classes(tried: Tried) -> None:
    tried.workspace.put(
        "a.js",
        "export function add(a, b) {\n  return a + b\n}\nexport default async function load(url) {}\n"
        "class Cart extends Base {}\nexport const total = (items) => 1\nconst plain = 3\n"
        "let later = async x => x\n",
    )
    assert (await tried.ok("outline", path="a.js")).splitlines() == [
        "1\texport function add(a, b)",
        "4\texport default async function load(url)",
        "5\tclass Cart",
        "6\texport const total = (items) =>",
        "8\tlet later = async x =>",
    ]


BUTTON = "export function Button() {}\n"


async def test_a_component_comes_with_its_export(tried: Tried) -> None:
    await tried.ok("add_component", name="Button", path="src/ui/Button.js", content=BUTTON)
    await tried.ok("add_component", name="Card", path="src/ui/Card.js", content="export default class {}\n")
    assert tried.workspace.files() == {
        "src/ui/Button.js": BUTTON,
        "src/ui/Card.js": "export default class {}\n",
        "src/ui/index.js": (
            'export { Button } from "./Button.js";\nexport { default as Card } from "./Card.js";\n'
        ),
    }


@pytest.mark.parametrize(
    ("index", "listed", "file", "line"),
    [
        ("index.ts", "", "Button.tsx", 'export { Button } from "./Button";\n'),
        ("index.js", 'export { A } from "./A";\n', "Button.jsx", 'export { Button } from "./Button";\n'),
        ("index.js", 'export { A } from "./A.js";\n', "Button.js", 'export { Button } from "./Button.js";\n'),
        ("index.js", "export const x = 1", "Button.js", '\nexport { Button } from "./Button.js";\n'),
        ("index.js", 'export * from "./Button.js";\n', "Button.js", ""),
        ("index.js", "", "Button.vue", 'export { default as Button } from "./Button.vue";\n'),
    ],
)
async def test_an_export_follows_the_index(
    tried: Tried, index: str, listed: str, file: str, line: str
) -> None:
    tried.workspace.put(f"ui/{index}", listed)
    content = "<template></template>" if file.endswith(".vue") else BUTTON
    await tried.ok("add_component", name="Button", path=f"ui/{file}", content=content)
    assert tried.workspace.files()[f"ui/{index}"] == listed + line


async def test_an_index_elsewhere_is_named(tried: Tried) -> None:
    given = {"name": "Button", "path": "src/ui/Button.js", "content": BUTTON, "index": "src/index.js"}
    await tried.ok("add_component", **given)
    assert tried.workspace.files()["src/index.js"] == 'export { Button } from "./ui/Button.js";\n'


async def test_a_component_that_is_there_is_never_overwritten(tried: Tried) -> None:
    tried.workspace.put("ui/Button.js", "mine")
    given = {"name": "Button", "path": "ui/Button.js", "content": BUTTON}
    assert "already there" in await tried.error("add_component", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "my-button"}, "cannot be exported"),
        ({"content": "function Button() {}"}, "exports neither Button nor a default"),
        ({"path": "ui/Button.py"}, "a component's file ends in"),
        ({"path": "ui/index.js"}, "the index cannot be the component's own file"),
        ({"name": "Taken", "content": "export const Taken = 1"}, "already exports Taken, of another file"),
        ({"index": "../index.js"}, "outside the workspace"),
        ({"index": "refused.txt"}, "not yours"),
    ],
)
async def test_a_component_that_cannot_be_added_leaves_nothing(
    tried: Tried, given: dict[str, object], message: str
) -> None:
    if "index.js" not in str(given.get("path")):
        tried.workspace.put("ui/index.js", 'export { Taken } from "./Other.js";\n')
    whole = {"name": "Button", "path": "ui/Button.js", "content": BUTTON, **given}
    assert message in await tried.error("add_component", **whole)


async def test_the_index_that_is_made_is_in_the_write_scope_too(tmp_path: Path) -> None:
    workspace = await git_workspace(tmp_path)
    scope = load_role("test").scope(frozenset(), frozenset())
    (result,) = await Toolbox(["add_component"], workspace, scope).run(
        [ToolCall("c", "add_component", {"name": "B", "path": "B.test.js", "content": "export const B = 1"})]
    )
    assert result.is_error
    assert "index.js: is outside" in result.text
    assert workspace.files() == {}


async def test_components_made_at_the_same_time_are_each_exported_once(tried: Tried) -> None:
    names = [f"C{n}" for n in range(20)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            content = f"export const {name} = 1\n"
            group.create_task(tried.ok("add_component", name=name, path=f"ui/{name}.js", content=content))
    index = tried.workspace.files()["ui/index.js"].splitlines()
    assert sorted(index) == sorted(f'export {{ {name} }} from "./{name}.js";' for name in names)


async def test_one_component_made_twice_at_the_same_time_is_made_once(tried: Tried) -> None:
    call: Call = ("add_component", {"name": "Button", "path": "ui/Button.js", "content": BUTTON})
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(tried.many(call)) for _ in range(2)]
    assert [task.result()[0].is_error for task in both] == [False, True]
    assert tried.workspace.files()["ui/index.js"] == 'export { Button } from "./Button.js";\n'


async def test_no_temporary_file_stays(tried: Tried) -> None:
    for n in range(5):
        await tried.ok("create_file", path=f"{n}.txt", content="x")
    (tried.workspace.root / "0.txt").unlink()
    (tried.workspace.root / "0.txt").mkdir()
    await tried.error("write_file", path="0.txt", content="x")
    assert not list(tried.workspace.root.rglob(".codeframe-*"))
