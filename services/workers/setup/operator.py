"""The operator's own settings for package registries: what a setup command is given of them.

A proxy, a mirror or a certificate that is configured for pip, uv, npm, Go and Cargo on this machine must work
for setup as well. Nothing else of the worker's environment is passed on, least of all the model's key.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIXES = ("PIP_", "UV_", "NPM_CONFIG_", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_")
NAMES = frozenset(
    (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GOPROXY",
        "GOPRIVATE",
        "GONOPROXY",
        "GONOSUMDB",
        "GOSUMDB",
        "GOINSECURE",
    )
)
# They say where things go, which is ours to say.
OURS = re.compile(
    r"PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|SRC|CACHE_DIR|LOG|REPORT|REQUIRE_VIRTUALENV|EDITABLE|REQUIREMENT)"
    r"|UV_(PROJECT.*|CACHE_DIR|PYTHON.*|TOOL_.*|WORKING_DIR.*|VENV.*|SYSTEM_PYTHON|BREAK_SYSTEM_PACKAGES|LINK_MODE)"
    r"|NPM_CONFIG_(PREFIX|CACHE|GLOBAL.*|LOCAL_PREFIX|TMP|LOGS_DIR|WORKSPACES?)"
)
FILES = (".config/pip/pip.conf", ".pip/pip.conf", ".config/uv/uv.toml", ".npmrc", ".netrc", ".config/go/env")
READ_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Variables, files to appear in the command's home (place there -> file), and the files both name."""

    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()


def find_operator_settings(environ: Mapping[str, str], home: Path) -> OperatorSettings:
    """The settings in an environment and in a home folder. Files that cannot be read are left out."""
    env = {name: value for name, value in environ.items() if _is_setting(name.upper())}
    texts, files = [*env.values()], {}
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for place in FILES:
        file = config / place.removeprefix(".config/") if place.startswith(".config/") else home / place
        if (text := _text(file)) is not None:
            files[place] = file
            texts.append(text)
    texts += [text for text in map(_text, _named(env.values())) if text is not None]
    named = [path for path in _named(texts) if path != home and not home.is_relative_to(path)]
    return OperatorSettings(env, files, tuple(dict.fromkeys([*files.values(), *named])))


def _is_setting(name: str) -> bool:
    return (name in NAMES or name.startswith(PREFIXES)) and not OURS.fullmatch(name)


def _text(file: Path) -> str | None:
    try:
        return (
            file.read_text(errors="replace") if file.is_file() and file.stat().st_size <= READ_LIMIT else None
        )
    except OSError:
        return None


def _named(texts: Iterable[str]) -> Iterator[Path]:
    """The absolute paths in texts that exist here."""
    for text in texts:
        for word in re.findall(r"(?:^|[\s=,:\"'])(?:file://)?(/[^\s,:\"']+)", text):
            if os.path.exists(word):
                yield Path(word)
