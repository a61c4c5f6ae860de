"""Which models share the provider's limits."""


def model_family(model: str) -> str:
    """The model's name without its version: "claude-sonnet" for claude-sonnet-5 and claude-3-5-sonnet-latest.

    The name of a model that is not a Claude is its family.
    """
    first, *rest = model.split("-")
    if first != "claude":
        return model
    return "-".join([first, *(part for part in rest if part != "latest" and not part[:1].isdigit())])
