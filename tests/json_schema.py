"""JSON Schema as far as our published schemas use it; a word that is not known here is an error."""

import re
from collections.abc import Iterator
from typing import Any

_SILENT = {"$schema", "$id", "$defs", "title", "description", "default", "examples"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def schema_faults(value: object, schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[str]:
    """What of a schema a value breaks, by keyword."""
    return list(_faults(value, schema, root or schema))


def _faults(value: object, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    for keyword, wanted in schema.items():
        if keyword in _SILENT:
            continue
        if keyword == "$ref":
            yield from _faults(value, root["$defs"][wanted.removeprefix("#/$defs/")], root)
        elif keyword == "anyOf":
            if all(schema_faults(value, each, root) for each in wanted):
                yield keyword
        elif keyword == "items":
            for item in value if isinstance(value, list) else ():
                yield from _faults(item, wanted, root)
        elif keyword in ("properties", "patternProperties", "additionalProperties"):
            yield from _of_properties(value, keyword, schema, root)
        elif not _holds(value, keyword, wanted):
            yield keyword


def _of_properties(
    value: object, keyword: str, schema: dict[str, Any], root: dict[str, Any]
) -> Iterator[str]:
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, inner in value.items() if isinstance(value, dict) else ():
        matching = [each for pattern, each in patterns.items() if re.search(pattern, key)]
        if keyword == "properties" and key in named:
            yield from _faults(inner, named[key], root)
        elif keyword == "patternProperties":
            for each in matching:
                yield from _faults(inner, each, root)
        elif keyword == "additionalProperties" and key not in named and not matching:
            if schema[keyword] is not False:
                raise NotImplementedError("additionalProperties that is not false")
            yield keyword


def _holds(value: Any, keyword: str, wanted: Any) -> bool:
    match keyword:
        case "type":
            is_number = wanted in ("integer", "number")
            return isinstance(value, _TYPES[wanted]) and not (is_number and isinstance(value, bool))
        case "enum":
            return value in wanted
        case "required":
            return not isinstance(value, dict) or all(key in value for key in wanted)
        case "minLength":
            return not isinstance(value, str) or len(value) >= wanted
        case "maxLength":
            return not isinstance(value, str) or len(value) <= wanted
        case "pattern":
            return not isinstance(value, str) or re.search(wanted, value) is not None
        case "minItems":
            return not isinstance(value, list) or len(value) >= wanted
        case "maxItems":
            return not isinstance(value, list) or len(value) <= wanted
        case "minProperties":
            return not isinstance(value, dict) or len(value) >= wanted
        case "minimum":
            return not isinstance(value, int | float) or value >= wanted
        case "maximum":
            return not isinstance(value, int | float) or value <= wanted
    raise NotImplementedError(keyword)
