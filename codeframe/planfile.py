"""A plan as people write it: YAML, where an error names the line and the path in it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml
from google.protobuf.descriptor import Descriptor

from buf.validate import validate_pb2
from codeframe import plan as rules
from codeframe.amounts import KINDS, budget_of, write_amounts
from codeframe.tomlfile import offer
from codeframe.v1 import budget_pb2, plan_pb2

SIZE_LIMIT = 16 * 1024 * 1024
"""Bytes that a plan may have: what one request carries."""

SCHEMA_LINE = (
    f"# yaml-language-server: $schema={(Path(__file__).parent / 'schema' / 'plan.schema.json').as_uri()}\n"
)
"""A plan's first line, by which editors check the rest."""

_PROBLEM_LIMIT = 20
_MAY_CHANGE = {
    "dependencies": plan_pb2.PROTECTED_KIND_DEPENDENCIES,
    "tests": plan_pb2.PROTECTED_KIND_TESTS,
    "ci": plan_pb2.PROTECTED_KIND_CI,
}
_TEXTS = ("id", "title", "description", "role", "verification", "setup", "model")
_TASK_KEYS = (*_TEXTS, "depends_on", "priority", "may_change", "budget")
_PRIORITIES = {"0", "1", "2", "3", "4"}
_NAMES = {
    "map": "a mapping",
    "seq": "a list",
    "null": "empty",
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
}
# What the API's patterns mean, in words.
_FORMS = {
    "id": "has letters, digits, '.', '_' and '-' only, and begins with a letter or digit",
    "role": "has small letters, digits and '-' only, and begins with a letter",
}
_Item = TypeVar("_Item")
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlanFileError(Exception):
    """The plan file cannot be used. `problems` are lines `file:line:column: path: what`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan, and where in its file each part stands."""

    path: str
    plan: plan_pb2.Plan
    places: Mapping[str, tuple[int, int]]

    def where(self, path: str) -> str:
        """`file:line:column` of a path such as `tasks[2].depends_on[0]`, or of what encloses it."""
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line, column = self.places.get(path, (1, 1))
        return f"{self.path}:{line}:{column}"


def read_plan(text: str, path: str) -> PlanFile:
    """Read a plan file; `path` is how errors name it.

    What the base must tell (a task's verification) is the lead's to judge.
    Raises PlanFileError, which names every fault found, up to twenty.
    """
    node = _compose(text, path)
    if node is None:
        raise PlanFileError([f"{path}:1:1: the file is empty; a plan has a title and tasks"])
    reader = _Reader()
    plan = reader.plan(node)
    if reader.problems:
        raise PlanFileError([f"{path}:{line}:{at}: {what}" for line, at, what in sorted(reader.problems)])
    if plan.ByteSize() > SIZE_LIMIT:
        raise PlanFileError([f"{path}:1:1: the plan is larger than {SIZE_LIMIT // 1024**2} MiB"])
    file = PlanFile(path, plan, reader.places)
    if found := rules.faults(rules.read_plan(plan)):
        told = ((fault.path.removeprefix("plan."), fault.message) for fault in found[:_PROBLEM_LIMIT])
        raise PlanFileError([f"{file.where(part)}: {part}: {message}" for part, message in told])
    return file


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent)


def plan_text(plan: plan_pb2.Plan) -> str:
    """A plan as a file that `read_plan` reads; budgets are not told."""
    kinds = {value: name for name, value in _MAY_CHANGE.items()}
    tasks = []
    for task in plan.tasks:
        told: dict[str, object] = {"id": task.id, "title": task.title, "description": task.description}
        told |= {"role": task.role} if task.role else {}
        told |= {"depends_on": list(task.depends_on)} if task.depends_on else {}
        told |= {"priority": task.priority} if task.HasField("priority") else {}
        told |= {key: getattr(task, key) for key in ("verification", "setup", "model") if getattr(task, key)}
        told |= {"may_change": [kinds[kind] for kind in task.may_change]} if task.may_change else {}
        tasks.append(told)
    document = {"title": plan.title, "tasks": tasks}
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _compose(text: str, path: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise PlanFileError([f"{path}:{place}: {error.problem or error.context}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise PlanFileError([f"{path}:1:1: {str(error).splitlines()[0]}"]) from None


@dataclass(slots=True)
class _Reader:
    """Walks the composed nodes, noting places and problems."""

    problems: list[tuple[int, int, str]] = field(default_factory=list)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)

    def plan(self, node: yaml.Node) -> plan_pb2.Plan:
        plan = plan_pb2.Plan()
        for key, value in self._mapping(node, "", ("title", "tasks"), ("title", "tasks")).items():
            if key == "title":
                plan.title = self._bounded(value, key, plan.DESCRIPTOR)
            else:
                plan.tasks.extend(self._list(value, key, self._task))
        return plan

    def _task(self, node: yaml.Node, path: str) -> plan_pb2.PlannedTask:
        task = plan_pb2.PlannedTask()
        for key, value in self._mapping(node, path, _TASK_KEYS, ("id", "title", "description")).items():
            at = f"{path}.{key}"
            match key:
                case "depends_on":
                    task.depends_on.extend(self._list(value, at, self._text))
                case "priority":
                    task.priority = self._priority(value, at)
                case "may_change":
                    task.may_change.extend(self._list(value, at, self._protected))
                case "budget":
                    self._budget(value, at, task.budget)
                case _:
                    setattr(task, key, self._bounded(value, at, task.DESCRIPTOR))
        return task

    def _budget(self, node: yaml.Node, path: str, budget: budget_pb2.Budget) -> None:
        """Amounts by kind; each is a number, or a duration."""
        for kind, value in self._mapping(node, path, KINDS, ()).items():
            if not isinstance(value, yaml.ScalarNode):
                self._problem(value, f"{path}.{kind}", f"must be an amount, not {_kind(value)}")
                continue
            try:
                write_amounts(budget, budget_of({kind: value.value}))
            except ValueError as error:
                self._problem(value, path, str(error))
        if isinstance(node, yaml.MappingNode) and not node.value:
            self._problem(node, path, f"limits nothing; give some of {', '.join(KINDS)}")

    def _mapping(
        self, node: yaml.Node, path: str, known: tuple[str, ...], required: tuple[str, ...]
    ) -> dict[str, yaml.Node]:
        """The values of the known keys; any other, one twice and a required one missing are problems."""
        self._note(node, path)
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, path, f"must be a mapping, not {_kind(node)}")
            return {}
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            at = _join(path, name)
            if name not in known:
                self._problem(key, at, f"unknown key; {offer(name, known)}")
            elif name in fields:
                self._problem(key, at, f"stands here twice; first at line {self.places[at][0]}")
            else:
                fields[name] = value
                self._note(value, at)
        for name in required:
            if name not in fields:
                self._problem(node, _join(path, name), "is missing")
        return fields

    def _list(self, node: yaml.Node, path: str, read: Callable[[yaml.Node, str], _Item]) -> list[_Item]:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, path, f"must be a list, not {_kind(node)}")
            return []
        for at, item in enumerate(node.value):
            self._note(item, f"{path}[{at}]")
        return [read(item, f"{path}[{at}]") for at, item in enumerate(node.value)]

    def _text(self, node: yaml.Node, path: str) -> str:
        if isinstance(node, yaml.ScalarNode) and _tag(node) == "str":
            return str(node.value)
        what = f"must be text, not {_kind(node)}"
        if isinstance(node, yaml.ScalarNode) and node.value:
            what = f'must be text; YAML takes {node.value} for {_kind(node)}, so quote it: "{node.value}"'
        self._problem(node, path, what)
        return ""

    def _bounded(self, node: yaml.Node, path: str, message: Descriptor) -> str:
        """The text of a field of a message, held to what the API takes there."""
        text, key = self._text(node, path), path.rpartition(".")[2]
        rule = message.fields_by_name[key].GetOptions().Extensions[validate_pb2.field].string
        if len(text) > rule.max_len:
            self._problem(node, path, f"has {len(text)} characters; it may have {rule.max_len}")
        elif text and rule.pattern and not re.search(rule.pattern, text):
            self._problem(node, path, f"{text!r} cannot be a task's {key}, which {_FORMS[key]}")
        return text

    def _priority(self, node: yaml.Node, path: str) -> int:
        if isinstance(node, yaml.ScalarNode) and _tag(node) == "int" and node.value in _PRIORITIES:
            return int(node.value)
        self._problem(node, path, "must be a number from 0 (first) to 4 (last)")
        return 0

    def _protected(self, node: yaml.Node, path: str) -> plan_pb2.ProtectedKind.ValueType:
        if isinstance(node, yaml.ScalarNode) and node.value in _MAY_CHANGE:
            return _MAY_CHANGE[node.value]
        self._problem(node, path, f"must be one of {', '.join(_MAY_CHANGE)}")
        return plan_pb2.PROTECTED_KIND_UNSPECIFIED

    def _note(self, node: yaml.Node, path: str) -> None:
        self.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _problem(self, node: yaml.Node, path: str, what: str) -> None:
        if len(self.problems) < _PROBLEM_LIMIT:
            line, column = node.start_mark.line + 1, node.start_mark.column + 1
            self.problems.append((line, column, f"{path}: {what}" if path else what))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _tag(node: yaml.Node) -> str:
    return str(node.tag).rpartition(":")[2]


def _kind(node: yaml.Node) -> str:
    return _NAMES.get(_tag(node), _tag(node))
