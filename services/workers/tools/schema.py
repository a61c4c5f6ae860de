"""Tool inputs: the strict JSON schemas they are declared with, and the check against them.

Only what strict schemas of the provider know is used: objects with named properties, strings (some of which
are one of a few), integers, and lists.
"""

from collections.abc import Mapping

from services.workers.model.conversation import Json

STRING: Json = {"type": "string"}
INTEGER: Json = {"type": "integer"}
STRINGS: Json = {"type": "array", "items": {"type": "string"}}
_NAMES = {"string": "strings", "integer": "integers", "object": "objects"}


def described(kind: Json, description: str) -> Json:
    """`kind` with a description for the model."""
    return {**kind, "description": description}


def one_of(*values: str) -> Json:
    """A string that is one of these."""
    return {"type": "string", "enum": list(values)}


def list_of(items: Json) -> Json:
    """A list of such items."""
    return {"type": "array", "items": items}


def object_of(properties: Mapping[str, Json], optional: tuple[str, ...] = ()) -> Json:
    """Return a strict schema: these properties and no other, all required but the optional ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


class Input:
    """A tool call's input that fits its schema."""

    def __init__(self, values: Json) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """Return a string."""
        value = self._values.get(name, default)
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int | None:
        """Return an integer, None where it is absent."""
        value = self._values.get(name)
        assert value is None or isinstance(value, int)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; a single string counts as a list of one."""
        value = self._values.get(name, [])
        if isinstance(value, str):
            return (value,)
        assert isinstance(value, list)
        return tuple(value)

    def objects(self, name: str) -> "tuple[Input, ...]":
        """Return a list of objects."""
        values = self._values.get(name, [])
        assert isinstance(values, list)
        return tuple(Input(value) for value in values)


def faults(values: object, schema: Json) -> list[str]:
    """Say what is wrong with an input, by property; nothing where it fits."""
    if not isinstance(values, Mapping):
        return ["the input must be an object"]
    properties = schema["properties"]
    required = schema["required"]
    assert isinstance(properties, Mapping)
    assert isinstance(required, list)
    found = [f"{name} is missing" for name in required if name not in values]
    for name, value in values.items():
        if name not in properties:
            found.append(f"{name} is not known; known are: {', '.join(properties)}")
        else:
            found.extend(_value_faults(name, value, properties[name]))
    return found


def _value_faults(name: str, value: object, kind: Json) -> list[str]:
    match kind["type"]:
        case "string":
            return _string_faults(name, value, kind.get("enum"))
        case "integer":
            fits = isinstance(value, int) and not isinstance(value, bool)
            return [] if fits else [f"{name} must be an integer"]
        case "array":
            items = kind["items"]
            assert isinstance(items, Mapping)
            if not isinstance(value, list):
                return [f"{name} must be a list of {_NAMES[str(items['type'])]}"]
            return [
                fault for n, item in enumerate(value) for fault in _value_faults(f"{name}[{n}]", item, items)
            ]
        case "object":
            if not isinstance(value, Mapping):
                return [f"{name} must be an object"]
            return [f"{name}.{fault}" for fault in faults(value, kind)]
    raise ValueError(f"{name}: a schema of type {kind['type']!r} is not known here")


def _string_faults(name: str, value: object, enum: object) -> list[str]:
    if not isinstance(value, str):
        return [f"{name} must be a string"]
    if isinstance(enum, list) and value not in enum:
        return [f"{name} must be one of {', '.join(enum)}"]
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return [f"{name} is not valid Unicode at character {error.start}"]
    return []
