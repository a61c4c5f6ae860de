"""What the schema of a strict tool may say."""

from demo.claude.errors import ApiError

# What a strict tool's schema may not say: the provider cannot hold the model to it.
_UNSUPPORTED = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minLength", "maxLength", "maxItems", "uniqueItems"}
)


def check_strict(where: str, schema: object) -> None:
    """A strict tool's schema names every property that it allows, at any depth, and no unsupported bound."""
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise ApiError(
            400, f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )
    if unsupported := sorted(_UNSUPPORTED & schema.keys()):
        raise ApiError(400, f"{where}: a strict schema does not support: {', '.join(unsupported)}")
    for key in ("properties", "$defs"):
        for name, inner in _items(schema.get(key)):
            check_strict(f"{where}.{key}.{name}", inner)
    for key in ("anyOf", "allOf"):
        alternatives = schema.get(key)
        for at, inner in enumerate(alternatives if isinstance(alternatives, list) else []):
            check_strict(f"{where}.{key}.{at}", inner)
    check_strict(f"{where}.items", schema.get("items"))


def _items(table: object) -> list[tuple[str, object]]:
    return list(table.items()) if isinstance(table, dict) else []
