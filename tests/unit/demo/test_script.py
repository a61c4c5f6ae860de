"""Scripts: what a file may say, which step is said, and the complaint where none fits."""

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from demo.claude.conversation import read_conversation
from demo.claude.errors import ApiError
from demo.claude.request import MessagesRequest, read_request
from demo.claude.script import Mismatch, Script, ScriptError, load_scripts
from tests.unit.demo.serving import HELLO, MODEL, serving, tool

ASK = "[script: hello]"


def called(name: str, **given: object) -> dict[str, object]:
    return {"name": name, "input": given}


def request(prompt: str, *rest: dict[str, object] | str, results: tuple[str, ...] = ()) -> MessagesRequest:
    """A conversation: a prompt, then calls each answered by the next of `results`, or texts."""
    messages: list[object] = [{"role": "user", "content": prompt}]
    answers = iter(results)
    for at, one in enumerate(rest):
        if isinstance(one, str):
            messages += [{"role": "assistant", "content": "Done."}, {"role": "user", "content": one}]
            continue
        answer = next(answers)
        use = {"type": "tool_use", "id": f"t{at}", **one}
        result = {
            "type": "tool_result",
            "tool_use_id": f"t{at}",
            "content": answer,
            "is_error": answer.startswith("error"),
        }
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return read_request(json.dumps({"model": "m", "max_tokens": 9, "messages": messages}).encode())


def script(*steps: dict[str, object]) -> Script:
    return Script.model_validate({"marker": "hello", "steps": list(steps)})


def chosen(made: Script, asked: MessagesRequest) -> int:
    return made.step(read_conversation(asked))[0]


def test_the_first_step_that_fits_is_said() -> None:
    made = script(
        {"when": {"turn": 1}, "say": "one"},
        {"when": {"turn": [2, 3], "last_result_contains": ["FAILED", "test_x"]}, "say": "two"},
        {"when": {"turn": [2, 3], "last_result_is_error": True}, "say": "three"},
        {"when": {"last_text_contains": "Verification failed"}, "say": "four"},
        {"when": {"prompt_contains": "again", "any_result_lacks": "a.py"}, "say": "five"},
        {"say": "six"},
    )
    grep = called("grep")
    assert chosen(made, request(ASK)) == 1
    assert chosen(made, request(ASK, grep, results=("FAILED test_x",))) == 2
    assert chosen(made, request(ASK, grep, results=("FAILED test_y",))) == 6
    assert chosen(made, request(ASK, grep, grep, results=("FAILED", "error: no such file"))) == 3
    assert chosen(made, request(ASK, grep, "Verification failed: test_x", results=("",))) == 4
    assert chosen(made, request(f"again {ASK}", grep, results=("b.py",))) == 5
    assert chosen(made, request(f"again {ASK}", grep, results=("a.py",))) == 6


def test_where_no_step_fits_it_is_a_mismatch() -> None:
    with pytest.raises(Mismatch):
        chosen(script({"when": {"turn": 2}, "say": "two"}), request(ASK))


@pytest.mark.parametrize(
    ("asked", "tool_name"),
    [
        (request(ASK), "create_file"),
        (request(ASK, called("list_files"), results=("a.py\nb.py",)), "write_file"),
        (
            request(ASK, called("list_files"), results=("src/a.py\na.pyc\nsee a.py",)),
            "create_file",
        ),
        (request(ASK, called("create_file", path="a.py"), results=("ok",)), "write_file"),
        (
            request(
                ASK,
                called("create_file", path="a.py"),
                called("delete_file", path="a.py"),
                results=("ok", "ok"),
            ),
            "create_file",
        ),
    ],
)
def test_put_file_creates_or_writes(asked: MessagesRequest, tool_name: str) -> None:
    made = script({"use": [{"put_file": {"path": "a.py", "content": ""}}]})
    (call,) = made.step(read_conversation(asked))[1].use
    assert (call.tool, call.input) == (tool_name, {"path": "a.py", "content": ""})


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("no marker", "bears no marker"), ("[script: a] [script: b]", "several markers: a, b")],
)
def test_a_prompt_bears_one_marker(prompt: str, said: str) -> None:
    with pytest.raises(ApiError, match=said):
        read_conversation(request(prompt))


def test_the_digest_is_the_same_whatever_is_cached() -> None:
    def digest(**cached: object) -> str:
        block = {"type": "text", "text": ASK, **cached}
        body = {
            "model": "m",
            "max_tokens": 9,
            "system": [{"type": "text", "text": "Be kind.", **cached}],
            "tools": [{**tool("grep"), **cached}],
            "messages": [{"role": "user", "content": [block]}],
        }
        return read_conversation(read_request(json.dumps(body).encode())).digest

    assert digest() == digest(cache_control={"type": "ephemeral"})
    assert digest() != read_conversation(request(ASK)).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{marker: a", "is not YAML"),
        ("", "the file: "),
        ("{marker: a, steps: []}", "steps: "),
        ("{marker: A B, steps: [{say: x}]}", "marker: "),
        ("{marker: a, steps: [{say: x, said: y}]}", "steps.0.said: Extra inputs"),
        ("{marker: a, steps: [{say: x}, {pace: 1}]}", "steps.1: Value error, give say, use or stop"),
        ("{marker: a, steps: [{say: x, when: {turn: 0}}]}", "steps.0.when.turn.0: "),
        ("{marker: a, steps: [{say: x, when: {turns: 1}}]}", "steps.0.when.turns: Extra inputs"),
        ("{marker: a, steps: [{use: [{grep: x}]}]}", "steps.0.use.0.input: "),
        (
            "{marker: a, steps: [{say: x, faults: [{times: 2}]}]}",
            "steps.0.faults.0: Value error, give exactly",
        ),
        (
            "{marker: a, steps: [{say: x, faults: [{empty: true, retry_after: 1}]}]}",
            "retry_after goes with status",
        ),
    ],
)
def test_a_script_at_fault_is_refused_by_file_and_path(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ScriptError) as caught:
        load_scripts([tmp_path])
    assert str(caught.value).startswith(f"{tmp_path / 'bad.yaml'}: ")
    assert said in str(caught.value)


def test_a_marker_stands_once(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("{marker: same, steps: [{say: x}]}")
    with pytest.raises(ScriptError, match=r"b\.yaml: marker: 'same' is already that of .*a\.yaml"):
        load_scripts([tmp_path])


def test_a_folder_without_scripts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="has no"):
        load_scripts([tmp_path])
    with pytest.raises(ScriptError, match=r"no\.yaml"):
        load_scripts([tmp_path / "no.yaml"])


STEPS = """
marker: hello
steps:
  - when: {turn: 2}
    use:
      - grep: {pattern: x, path: y}
"""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "does not fit turn 1: none of its steps fits. Last text: 'Say hello"),
        ({"messages": [{"role": "user", "content": "[script: other]"}]}, "there is none; known are: hello"),
        ({"tools": []}, "uses grep, and the request offers: no tool"),
        ({"tools": [tool("sed")]}, "uses grep, and the request offers: sed"),
        (
            {"tools": [tool("grep", "pattern", "path")], "tool_choice": {"type": "none"}},
            "tool_choice is none",
        ),
        ({"tools": [tool("grep", "pattern", "path", "flags")]}, "gives grep no flags, which"),
        ({"tools": [tool("grep", "pattern")]}, "gives grep path, which the request's schema does not know"),
    ],
)
async def test_a_mismatch_is_loud_and_final(tmp_path: Path, changes: Any, said: str) -> None:
    told: Any = [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Go on."}]
    messages: Any = [*HELLO, *told] if "tools" in changes else HELLO
    body: Any = {"model": MODEL, "max_tokens": 9, "messages": messages} | changes
    async with serving(tmp_path, {"hello.yaml": STEPS}) as claude:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await claude.client.messages.create(**body)
        assert caught.value.type == "invalid_request_error"
        assert isinstance(caught.value.body, dict)
        message = caught.value.body["error"]["message"]
        assert message.startswith("scripted Claude: ")
        assert said in message
        assert claude.requests()[0]["message"] == message
