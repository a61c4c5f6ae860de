"""The key for the model: only workers hold it."""

from collections.abc import Mapping

KEY = "ANTHROPIC_API_KEY"
ENDPOINT = "ANTHROPIC_BASE_URL"

_SECRETS = {KEY, "ANTHROPIC_AUTH_TOKEN"}
# What a server that asks for no key is sent.
_NONE_NEEDED = "none"


def missing_key(environment: Mapping[str, str]) -> str:
    """What to say where workers would have no key; empty where they have one, or need none."""
    if environment.get(KEY, "").strip() or environment.get(ENDPOINT):
        return ""
    return (
        f"{KEY} is not set: workers need a key for Claude. Set it, or set {ENDPOINT} to a server of the "
        "Messages API that needs none; `make demo` needs neither"
    )


def custom_endpoint(environment: Mapping[str, str]) -> str:
    """The address that the model is asked at, where it is not Anthropic's own; else empty."""
    endpoint = environment.get(ENDPOINT, "")
    return "" if is_anthropic(endpoint) else endpoint


def is_anthropic(endpoint: str) -> bool:
    """Whether an address is Anthropic's own, which no address at all means too."""
    return endpoint.rstrip("/") in ("", "https://api.anthropic.com")


def worker_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """A worker's environment: with a placeholder for a key where the endpoint is to need none."""
    if environment.get(ENDPOINT) and not environment.get(KEY, "").strip():
        return {**environment, KEY: _NONE_NEEDED}
    return environment


def without_key(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment of a server that never asks the model."""
    return {name: value for name, value in environment.items() if name not in _SECRETS}
