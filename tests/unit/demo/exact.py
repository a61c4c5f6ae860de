"""Whether JSON is exactly what a type of the SDK describes."""

from typing import Any

from pydantic import BaseModel, TypeAdapter


def exactly(kind: Any, value: object) -> None:
    """Assert that `value` validates as `kind`, with every field there and none besides, at any depth."""
    parsed = TypeAdapter(kind).validate_python(value)
    _compare(parsed, value, kind.__name__ if isinstance(kind, type) else str(kind))


def _compare(parsed: object, value: object, where: str) -> None:
    if isinstance(parsed, BaseModel):
        assert isinstance(value, dict), where
        assert set(value) == set(type(parsed).model_fields), where
        assert not parsed.model_extra, where
        for name in type(parsed).model_fields:
            _compare(getattr(parsed, name), value[name], f"{where}.{name}")
    elif isinstance(parsed, list):
        assert isinstance(value, list), where
        assert len(parsed) == len(value), where
        for at, (one, other) in enumerate(zip(parsed, value, strict=True)):
            _compare(one, other, f"{where}[{at}]")
