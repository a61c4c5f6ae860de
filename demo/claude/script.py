"""Scripts: what to say where. Their language is told in docs/scripted-claude.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from demo.claude.conversation import Conversation
from demo.claude.request import MessagesRequest, Tool

STALL_SECONDS = 3600.0


class ScriptError(Exception):
    """Scripts that cannot be used. The message names the file and the path in it."""


class Mismatch(Exception):
    """A conversation that its script does not foresee."""


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


Texts = Annotated[list[str], BeforeValidator(_as_list)]
Turns = Annotated[list[Annotated[int, Field(ge=1)]], BeforeValidator(_as_list)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class When(_Strict):
    """Conditions; all that are given must hold."""

    turn: Turns = []
    prompt_contains: Texts = []
    prompt_lacks: Texts = []
    last_text_contains: Texts = []
    last_text_lacks: Texts = []
    last_result_contains: Texts = []
    last_result_lacks: Texts = []
    last_result_is_error: bool | None = None
    any_result_contains: Texts = []
    any_result_lacks: Texts = []

    def holds(self, conversation: Conversation) -> bool:
        """Whether a conversation is one of these."""
        places = (
            (conversation.prompt, self.prompt_contains, self.prompt_lacks),
            (conversation.last_text, self.last_text_contains, self.last_text_lacks),
            (conversation.last_results, self.last_result_contains, self.last_result_lacks),
            (conversation.results, self.any_result_contains, self.any_result_lacks),
        )
        return (
            (not self.turn or conversation.turn in self.turn)
            and self.last_result_is_error in (None, conversation.last_error)
            and all(part in text for text, parts, _ in places for part in parts)
            and not any(part in text for text, _, parts in places for part in parts)
        )


class Fault(_Strict):
    """Something that goes wrong: instead of a reply, or in its midst, after some of the stream's events."""

    status: Annotated[int | None, Field(ge=400, le=599)] = None
    retry_after: Annotated[float | None, Field(ge=0)] = None
    headers: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9-]+$")], Annotated[str, Field(pattern=r"^[ -~]*$")]
    ] = {}
    empty: Literal[True] | None = None
    drop_after: Annotated[int | None, Field(ge=1)] = None
    end_after: Annotated[int | None, Field(ge=1)] = None
    error_after: Annotated[int | None, Field(ge=1)] = None
    error: Literal["overloaded_error", "api_error", "rate_limit_error", "timeout_error"] = "overloaded_error"
    stall_after: Annotated[int | None, Field(ge=1)] = None
    seconds: Annotated[float, Field(gt=0, le=STALL_SECONDS)] = STALL_SECONDS
    garble: Literal[True] | None = None
    times: Annotated[int, Field(ge=1, le=1000)] = 1

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = ["status", "empty", "drop_after", "end_after", "error_after", "stall_after", "garble"]
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(kinds)}")
        for name, kind in (
            ("retry_after", "status"),
            ("headers", "status"),
            ("error", "error_after"),
            ("seconds", "stall_after"),
        ):
            if name in self.model_fields_set and kind not in given:
                raise ValueError(f"{name} goes with {kind}")
        return self


class Call(_Strict):
    """A tool to call."""

    tool: str
    input: dict[str, object]


def _as_call(value: object) -> object:
    """`write_file: {path: …}` is a call of write_file."""
    if isinstance(value, dict) and len(value) == 1:
        ((tool, input_),) = value.items()
        return {"tool": tool, "input": {} if input_ is None else input_}
    return value


def _put(call: Call, conversation: Conversation) -> Call:
    """`put_file` is no tool: it is write_file where the file is there, else create_file."""
    if call.tool != "put_file":
        return call
    there = call.input.get("path") in conversation.files
    return Call(tool="write_file" if there else "create_file", input=call.input)


class Step(_Strict):
    """One turn: when it is said, what is said, and how."""

    when: When = When()
    say: str = ""
    use: list[Annotated[Call, BeforeValidator(_as_call)]] = []
    stop: Literal["end_turn", "pause_turn", "refusal", "model_context_window_exceeded"] | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    pace: Annotated[float, Field(ge=0, le=60)] = 0.0
    faults: list[Fault] = []

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.say.strip() and not self.use and self.stop is None:
            raise ValueError("give say, use or stop")
        return self

    def fault(self, tried: int) -> Fault | None:
        """The fault of this step's next try, after `tried` ones."""
        for fault in self.faults:
            if tried < fault.times:
                return fault
            tried -= fault.times
        return None


class Script(_Strict):
    """What to say in the conversations that bear a marker."""

    marker: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    steps: Annotated[list[Step], Field(min_length=1)]

    def step(self, conversation: Conversation) -> tuple[int, Step]:
        """The first step whose conditions hold, with its number from 1; its calls are of real tools.

        Raises Mismatch where none does.
        """
        for number, step in enumerate(self.steps, 1):
            if step.when.holds(conversation):
                calls = [_put(call, conversation) for call in step.use]
                return number, step.model_copy(update={"use": calls})
        raise Mismatch("none of its steps fits")


def check_calls(step: Step, request: MessagesRequest) -> None:
    """Hold a step's calls against the tools that the request offers.

    Raises Mismatch where a tool is not offered, or an input does not fit its schema's names.
    """
    tools = {tool.name: tool for tool in request.tools}
    if step.use and request.tool_choice is not None and request.tool_choice.type == "none":
        raise Mismatch("its step uses tools, and the request's tool_choice is none")
    for call in step.use:
        if call.tool not in tools:
            offered = ", ".join(tools) or "no tool"
            raise Mismatch(f"its step uses {call.tool}, and the request offers: {offered}")
        _check_input(call, tools[call.tool])


def _check_input(call: Call, tool: Tool) -> None:
    properties = tool.input_schema.get("properties")
    required = tool.input_schema.get("required")
    known = set(properties) if isinstance(properties, dict) else set()
    for name in required if isinstance(required, list) else []:
        if name not in call.input:
            raise Mismatch(f"its step gives {call.tool} no {name}, which the request's schema requires")
    if tool.input_schema.get("additionalProperties") is False and (extra := call.input.keys() - known):
        names = ", ".join(sorted(extra))
        raise Mismatch(f"its step gives {call.tool} {names}, which the request's schema does not know")


def load_scripts(paths: Sequence[Path]) -> Mapping[str, Script]:
    """Read scripts from files, and from the *.yaml files of folders; the result is by marker.

    Raises ScriptError.
    """
    files = [file for path in paths for file in _files(path)]
    scripts: dict[str, Script] = {}
    sources: dict[str, Path] = {}
    for file in files:
        script = _load(file)
        if script.marker in scripts:
            other = sources[script.marker]
            raise ScriptError(f"{file}: marker: {script.marker!r} is already that of {other}")
        scripts[script.marker] = script
        sources[script.marker] = file
    return scripts


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if files := sorted(path.glob("*.yaml")):
        return files
    raise ScriptError(f"{path}: has no *.yaml file")


def _load(file: Path) -> Script:
    try:
        return Script.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{file}: {error}") from None
    except yaml.YAMLError as error:
        raise ScriptError(f"{file}: is not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ScriptError(f"{file}: {where}: {first['msg']}") from None
