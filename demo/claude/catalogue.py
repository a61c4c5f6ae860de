"""The models that the scripted Claude answers to."""

DEFAULT_MODELS = (
    "claude-opus-5-5",
    "claude-opus-5",
    "claude-sonnet-5-5",
    "claude-sonnet-5",
    "claude-haiku-5-5",
    "claude-opus-4-8",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
)
MAX_OUTPUT_TOKENS = 128_000
MAX_INPUT_TOKENS = 1_000_000

_LINES = ("haiku", "sonnet", "opus", "fable", "mythos")


def model_info(model: str) -> dict[str, object]:
    """A model as `GET /v1/models` lists it."""
    return {
        "type": "model",
        "id": model,
        "display_name": f"{model} (scripted)",
        "created_at": "1970-01-01T00:00:00Z",
        "deprecated_at": None,
        "retires_at": None,
        "lifecycle": "active",
        "line": next((line for line in _LINES if f"-{line}-" in model), None),
        "max_input_tokens": MAX_INPUT_TOKENS,
        "max_tokens": MAX_OUTPUT_TOKENS,
        "capabilities": None,
    }


def model_page(models: tuple[str, ...]) -> dict[str, object]:
    """The one page of `GET /v1/models`."""
    return {
        "data": [model_info(model) for model in models],
        "has_more": False,
        "first_id": models[0] if models else None,
        "last_id": models[-1] if models else None,
    }
