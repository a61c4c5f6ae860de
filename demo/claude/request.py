"""A Messages request: what it may hold, and the error that names what is wrong.

Fields that the API knows but this server would not honour (images, documents, server tools, thinking blocks,
structured output, containers) are refused by name, as unknown ones are.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from demo.claude.catalogue import MAX_OUTPUT_TOKENS
from demo.claude.errors import ApiError
from demo.claude.strict_schema import check_strict

MAX_BREAKPOINTS = 4


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CacheControl(_Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] = "5m"


class _Cacheable(_Strict):
    cache_control: CacheControl | None = None


class Text(_Cacheable):
    type: Literal["text"]
    text: str
    citations: None = None


class _DirectCaller(_Strict):
    type: Literal["direct"]


class ToolUse(_Cacheable):
    type: Literal["tool_use"]
    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    input: dict[str, object]
    caller: _DirectCaller | None = None
    toolset_name: None = None


def _as_blocks(content: object) -> object:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ToolResult(_Cacheable):
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    content: Annotated[list[Text], BeforeValidator(_as_blocks)] = []
    is_error: bool = False
    toolset_name: None = None

    @property
    def text(self) -> str:
        """The result as one text."""
        return "\n".join(block.text for block in self.content)


Block = Annotated[Text | ToolUse | ToolResult, Field(discriminator="type")]


class Message(_Strict):
    role: Literal["user", "assistant"]
    content: Annotated[list[Block], BeforeValidator(_as_blocks)]


class Tool(_Cacheable):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, object]
    description: str = ""
    type: Literal["custom"] | None = None
    strict: bool = False
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, object]] = []
    allowed_callers: list[Literal["direct"]] = ["direct"]


class _AnyTool(_Strict):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool = False


class _NamedTool(_Strict):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class _NoTool(_Strict):
    type: Literal["none"]


ToolChoice = Annotated[_AnyTool | _NamedTool | _NoTool, Field(discriminator="type")]


class _Thinking(_Strict):
    type: Literal["adaptive", "disabled", "between_tools"]
    display: Literal["summarized", "omitted"] | None = None


class _OutputConfig(_Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: None = None


class _Metadata(_Strict):
    user_id: str | None = None


class Prompt(_Strict):
    """The body of `POST /v1/messages/count_tokens`: what is said to the model."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=100_000)]
    system: Annotated[list[Text], BeforeValidator(_as_blocks)] = []
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    cache_control: CacheControl | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    speed: Literal["standard"] | None = None


class MessagesRequest(Prompt):
    """The body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Field(gt=0, le=MAX_OUTPUT_TOKENS)]
    stream: bool = False
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] = "auto"
    inference_geo: str | None = None
    container: None = None
    diagnostics: None = None


_Body = TypeVar("_Body", bound=Prompt)


def read_request(body: bytes) -> MessagesRequest:
    """Read the body of a request for a message.

    Raises ApiError (400) that names the first field at fault.
    """
    return _read(MessagesRequest, body)


def read_prompt(body: bytes) -> Prompt:
    """Read the body of a request to count tokens.

    Raises ApiError (400) that names the first field at fault.
    """
    return _read(Prompt, body)


def _read(kind: type[_Body], body: bytes) -> _Body:
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{where}: {_wording(first['type'], first['msg'])}".removeprefix(": ")) from None
    _check_messages(request.messages)
    _check_tools(request)
    found = sum(part.cache_control is not None for part in (request, *cacheable_blocks(request)))
    if found > MAX_BREAKPOINTS:
        raise ApiError(
            400, f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {found}."
        )
    return request


def cacheable_blocks(request: Prompt) -> Sequence[Tool | Text | ToolUse | ToolResult]:
    """Everything of a request that can bear a cache breakpoint, in the order of its prefix."""
    spoken = [block for message in request.messages for block in message.content]
    return [*request.tools, *request.system, *spoken]


def _wording(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "Extra inputs are not permitted"
    return "The request body is not valid JSON: " + message if kind == "json_invalid" else message


def _check_messages(messages: Sequence[Message]) -> None:
    if messages[0].role != "user":
        raise ApiError(400, "messages.0.role: the first message must use the user role")
    if messages[-1].role == "assistant":
        raise ApiError(
            400,
            f"messages.{len(messages) - 1}.role: the conversation must end with a user message (no prefill)",
        )
    seen: set[str] = set()
    for at, message in enumerate(messages):
        if not message.content:
            raise ApiError(400, f"messages.{at}.content: all messages must have non-empty content")
        _check_blocks(at, message)
        for block in message.content:
            if isinstance(block, ToolUse):
                if block.id in seen:
                    raise ApiError(
                        400, f"messages.{at}: `tool_use` ids must be unique; found {block.id} again"
                    )
                seen.add(block.id)
        before = messages[at - 1] if at else None
        _check_pairing(at, before, message)


def _check_blocks(at: int, message: Message) -> None:
    text_seen = False
    for place, block in enumerate(message.content):
        where = f"messages.{at}.content.{place}"
        match block:
            case Text(text=text):
                text_seen = True
                if not text.strip():
                    raise ApiError(400, f"{where}.text: text content blocks must contain non-whitespace text")
            case ToolUse() if message.role == "user":
                raise ApiError(400, f"{where}: `tool_use` blocks can only be in `assistant` messages")
            case ToolResult() if message.role == "assistant":
                raise ApiError(400, f"{where}: `tool_result` blocks can only be in `user` messages")
            case ToolResult() if text_seen:
                raise ApiError(400, f"{where}: `tool_result` blocks must come before any text")
            case _:
                pass


def _check_pairing(at: int, before: Message | None, message: Message) -> None:
    """Every tool_use of one message has exactly one tool_result in the next, and the other way round."""
    asked = {b.id for b in before.content if isinstance(b, ToolUse)} if before else set()
    given: set[str] = set()
    for place, block in enumerate(message.content):
        if not isinstance(block, ToolResult):
            continue
        if block.tool_use_id not in asked:
            raise ApiError(
                400,
                f"messages.{at}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                f"{block.tool_use_id}. Each `tool_result` block must have a corresponding `tool_use` block "
                "in the previous message.",
            )
        if block.tool_use_id in given:
            raise ApiError(
                400,
                f"messages.{at}.content.{place}: each `tool_use` must have a single result. "
                f"Found multiple `tool_result` blocks with id: {block.tool_use_id}",
            )
        given.add(block.tool_use_id)
    if missing := asked - given:
        raise ApiError(
            400,
            f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(sorted(missing))}. Each `tool_use` block must have a corresponding `tool_result` "
            "block in the next message.",
        )


def _check_tools(request: Prompt) -> None:
    names = [tool.name for tool in request.tools]
    for at, tool in enumerate(request.tools):
        if tool.name in names[:at]:
            raise ApiError(400, f"tools.{at}.name: Tool names must be unique; found {tool.name} again")
        if tool.input_schema.get("type") != "object":
            raise ApiError(400, f"tools.{at}.input_schema.type: Input should be 'object'")
        if tool.strict:
            check_strict(f"tools.{at}.input_schema", tool.input_schema)
    if request.tool_choice is None:
        return
    if not names:
        raise ApiError(400, "tool_choice: may only be specified while providing tools")
    if isinstance(request.tool_choice, _NamedTool) and request.tool_choice.name not in names:
        raise ApiError(
            400, f"tool_choice.name: Tool '{request.tool_choice.name}' not found in provided tools"
        )
