"""The parts of docs/events.md that are not written by hand: made of the protos, the gateway and real runs.

    make events    writes them anew (python -m tests.contract.events_document)

What stands between `<!-- made: NAME -->` and `<!-- end -->` is such a part.
"""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_tools import protoc

from codeframe.v1 import events_pb2, state_pb2
from codeframe.v1.status_pb2 import JournaledEvent
from gateway.frames import FRAMES, frame
from gateway.sse import server_sent
from tests.contract.walks import Walks, walk

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/events.md"
KINDS: Mapping[str, Descriptor] = {
    field.name: field.message_type
    for field in events_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    if field.message_type is not None
}

Told = Callable[[events_pb2.Event], bool]

# Which run an example is taken from, and which event of its kind, where that is not the first.
_FROM: Mapping[str, tuple[str, Told]] = {
    "task_status_changed": ("passes", lambda event: event.task_status_changed.progress == 80),
    "agent_status_changed": ("passes", lambda _: True),
    "correction_attempt": ("corrects-itself", lambda _: True),
    "progress_update": ("passes", lambda event: event.progress_update.completed == 1),
    "attempt_ended": ("corrects-itself", lambda event: bool(event.attempt_ended.commit)),
    "plan_proposed": ("of-a-goal", lambda _: True),
    "activity_update": ("passes", lambda event: event.activity_update.activity_type == "tool"),
    "run_status_changed": ("fails", lambda event: event.run_status_changed.HasField("failure")),
}


class Missing(Exception):
    """The document lacks a part. The message says what to add, and where."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What the parts are made of: comments of the protos by full name, and runs."""

    comments: Mapping[str, str]
    walks: Walks


def read_sources(walks: Walks) -> Sources:
    """The protos' comments, beside what was told of runs."""
    return Sources(_comments(), walks)


def rendered(document: str, sources: Sources) -> str:
    """The document with every made part made anew. Raises Missing where it has no place for one."""
    parts = _parts(sources)
    for name in parts:
        if f"<!-- made: {name} -->" not in document:
            raise Missing(_what_to_add(name))

    def remade(match: re.Match[str]) -> str:
        name = match[1]
        if name not in parts:
            raise Missing(f"docs/events.md has a part {name!r}, which nothing makes: remove its section")
        return f"<!-- made: {name} -->\n\n{parts[name].strip()}\n\n<!-- end -->"

    return re.sub(r"<!-- made: (.*?) -->\n.*?<!-- end -->", remade, document, flags=re.DOTALL)


def sections(document: str) -> dict[str, str]:
    """The text of each kind's section, by its kind."""
    found = re.split(r"^### (\w+)$", document.partition("\n## Kinds\n")[2], flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def line(event: events_pb2.Event) -> str:
    """An event in a line: its kind, and the enum values that tell events of one kind apart."""
    kind = event.WhichOneof("payload") or ""
    payload = getattr(event, kind)
    words = [
        _word(field.enum_type, getattr(payload, field.name))
        for field in payload.DESCRIPTOR.fields
        if field.enum_type is not None and getattr(payload, field.name)
    ]
    return " ".join([kind, *words])


def _what_to_add(name: str) -> str:
    kind = name.removeprefix("kind ")
    section = f"<!-- made: {name} -->\n<!-- end -->"
    if kind in KINDS:
        section = f"### {kind}\n\nWhat it tells, in a sentence.\n\n**Author**: … **When**: …\n\n{section}"
    return f"docs/events.md has no part {name!r}. Add this, then run `make events`:\n\n{section}\n"


# ---- parts


def _parts(sources: Sources) -> dict[str, str]:
    made = {
        "envelope": _table("codeframe.v1.Event", events_pb2.Event.DESCRIPTOR, sources, skip=set(KINDS)),
        "agent states": _states(sources),
        "overview": _overview(sources),
    }
    for name, events in sources.walks.runs.items():
        lines = "\n".join(line(told.event) for told in events)
        made[f"sequence {name}"] = f"```text\n{lines}\n```"
    for kind, payload in KINDS.items():
        table = _table(payload.full_name, payload, sources, framed=set(FRAMES.get(kind, ())))
        made[f"kind {kind}"] = f"{table}\n\n{_example(kind, sources)}"
    return made


def _overview(sources: Sources) -> str:
    rows = [
        f"| [{kind}](#{kind}) | {sources.comments[f'codeframe.v1.Event.{kind}']} | "
        f"{'yes' if kind in FRAMES else 'no'} |"
        for kind in KINDS
    ]
    return "\n".join(["| kind | what it tells | has a frame |", "|---|---|---|", *rows])


def _states(sources: Sources) -> str:
    enum = state_pb2.AgentState.DESCRIPTOR
    rows = [
        f"| {_word(enum, value.number)} | {sources.comments[f'codeframe.v1.{value.name}']} |"
        for value in enum.values
        if value.number
    ]
    return "\n".join(["| state | what it means |", "|---|---|", *rows])


def _table(
    name: str,
    message: Descriptor,
    sources: Sources,
    *,
    skip: Iterable[str] = (),
    framed: Iterable[str] | None = None,
) -> str:
    """A table of a message's fields, with those of its parts. `framed` are the fields of its frame."""
    heading = ["| field | type | what it means |", "|---|---|---|"]
    if framed:
        heading = ["| field | type | what it means | in the frame |", "|---|---|---|---|"]
    rows = []
    for path, field in _fields(message, skip):
        cells = [
            f"`{path}`",
            _type(field),
            sources.comments[field.full_name],
        ]
        if framed:
            cells.append(_framed(path, framed))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*heading, *rows])


def _framed(path: str, framed: Iterable[str]) -> str:
    if path in framed:
        return "always"
    return "where it is set" if f"{path}?" in framed else "no"


def _fields(message: Descriptor, skip: Iterable[str] = ()) -> Iterable[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        if field.name in skip:
            continue
        name = f"{field.name}[]" if field.is_repeated else field.name
        yield name.removesuffix("[]"), field
        if field.message_type is not None and field.message_type.file.package == "codeframe.v1":
            for path, inner in _fields(field.message_type):
                yield f"{name}.{path}", inner


def _type(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        name = field.enum_type.name
    elif field.message_type is not None:
        name = field.message_type.name
    else:
        types = descriptor_pb2.FieldDescriptorProto.Type.DESCRIPTOR.values_by_number
        name = types[field.type].name.removeprefix("TYPE_").lower()
    if field.is_repeated:
        return f"list of {name}"
    explicit = field.has_presence and field.message_type is None and field.containing_oneof is not None
    return f"{name}, or absent" if explicit else name


def _example(kind: str, sources: Sources) -> str:
    """One event as the gateway sends it: as server-sent event, and as frame where it has one."""
    told = _settled(_chosen(kind, sources.walks))
    fields = dict(text.split(": ", 1) for text in server_sent(told).strip().split("\n"))
    data = json.dumps(json.loads(fields["data"]), indent=2)
    flat = frame(told)
    sse = f"```text\nid: {fields['id']}\nevent: {fields['event']}\ndata: {data}\n```"
    if flat is None:
        return f"{sse}\n\nIt has no frame."
    framed = f"```json\n{json.dumps(flat, indent=2)}\n```"
    cells = f"<td>\n\n{sse}\n\n</td><td>\n\n{framed}\n\n</td>"
    return f'<table><tr><th>server-sent event</th><th>frame</th></tr><tr valign="top">{cells}</tr></table>'


def _chosen(kind: str, walks: Walks) -> JournaledEvent:
    name, fits = _FROM.get(kind, ("", lambda _: True))
    runs = [walks.runs[name]] if name else [*walks.runs.values(), walks.fleet]
    for told in (each for run in runs for each in run):
        if told.event.WhichOneof("payload") == kind and fits(told.event):
            return told
    raise Missing(f"nothing in tests/contract/walks.py tells {kind}: have a run there bring it about")


# ---- what differs from run to run

_RUN, _LOG, _REVISION = "r7b0c2d4e", "5f3a9c1e", 42
_TIMES = {
    "event_time": "2026-01-02T03:04:05.678Z",
    "retry_time": "2026-01-02T03:04:15.678Z",
    "resume_time": "2026-01-02T03:05:05.678Z",
}


def _settled(told: JournaledEvent) -> JournaledEvent:
    """The event, with what differs from run to run (ids, instants, commits, durations) made the same."""
    settled = JournaledEvent()
    settled.CopyFrom(told)
    settled.revision, settled.cursor = _REVISION, f"{_LOG}.{_REVISION}"
    event = MessageToDict(settled, preserving_proto_field_name=True)
    run_id = "" if told.event.run_id == "fleet" else told.event.run_id
    return ParseDict(_without_chance(event, run_id), JournaledEvent())


def _without_chance(value: Any, run_id: str, key: str = "") -> Any:
    match value:
        case dict():
            return {key: _without_chance(inner, run_id, key) for key, inner in value.items()}
        case list():
            return [_without_chance(inner, run_id, key) for inner in value]
        case _ if key in _TIMES:
            return _TIMES[key]
        case _ if key == "duration":
            return "1.250s" if isinstance(value, str) else 1.25
        case _ if key == "size":
            return "1234"
        case str():
            text = value.replace(run_id, _RUN) if run_id else value
            text = re.sub(r"\b[0-9a-f]{64}\b", lambda _: "9f86d081" * 8, text)
            text = re.sub(r"\b[0-9a-f]{40}\b", lambda _: "4f1e2d3c" * 5, text)
            return re.sub(r"\b[0-9a-f]{12}\b", lambda _: ("4f1e2d3c" * 5)[:12], text)
    return value


# ---- the protos


def _word(enum: EnumDescriptor, number: int) -> str:
    """`in_progress` for TASK_STATE_IN_PROGRESS."""
    name: str = enum.values_by_number[number].name
    return name.removeprefix(enum.values_by_number[0].name.removesuffix("UNSPECIFIED")).lower()


def _comments() -> dict[str, str]:
    """The comment of every message, field and enum value of the public protos, by full name, in one line."""
    protos = sorted((ROOT / "protos/codeframe/v1").glob("*.proto"))
    includes = [ROOT / "protos", ROOT / "third_party/protovalidate", files("grpc_tools") / "_proto"]
    with tempfile.NamedTemporaryFile() as out:
        arguments = [f"-I{include}" for include in includes]
        arguments += ["--include_source_info", f"--descriptor_set_out={out.name}", *map(str, protos)]
        if protoc.main(["protoc", *arguments]):
            raise SystemExit("protoc refuses the protos")
        described = descriptor_pb2.FileDescriptorSet.FromString(out.read())
    found: dict[str, str] = {}
    for file in described.file:
        for location in file.source_code_info.location:
            if name := _named(file, list(location.path)):
                comment = " ".join(location.leading_comments.split())
                found[f"{file.package}.{name}"] = comment.replace("<", "&lt;").replace("|", "\\|")
    return found


def _named(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """The name of what a path leads to: a message, its field, an enum or its value (which has no prefix)."""
    match path:
        case [4, message]:
            return file.message_type[message].name
        case [4, message, 2, field]:
            return f"{file.message_type[message].name}.{file.message_type[message].field[field].name}"
        case [5, enum, 2, value]:
            return file.enum_type[enum].value[value].name
    return ""


def main() -> None:
    """Write the document's made parts anew."""
    with tempfile.TemporaryDirectory() as folder:
        walks = asyncio.run(walk(Path(folder)))
    before = DOCUMENT.read_text()
    try:
        after = rendered(before, read_sources(walks))
    except Missing as missing:
        sys.exit(str(missing))
    DOCUMENT.write_text(after)
    print("docs/events.md is as it was" if before == after else "docs/events.md is written anew")


if __name__ == "__main__":
    main()
