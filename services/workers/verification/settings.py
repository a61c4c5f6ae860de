"""What a project's configuration says of how its tests are run: in files that say other things, too. Pure."""

import configparser
import json
import posixpath
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

Settings = Mapping[str, Any]

_JS_RUNNERS = ("jest", "vitest", "mocha", "ava", "tap", "karma")
_PY_TOOLS = ("pytest", "tox", "nox", "hatch", "coverage")
_CARGO_KEYS = ("test", "doctest", "harness")  # of a target


def _package_json(text: str) -> Settings:
    package = json.loads(text)
    scripts = {name: line for name, line in package.get("scripts", {}).items() if "test" in name}
    return {"scripts": scripts} | {name: package[name] for name in _JS_RUNNERS if name in package}


def _pyproject(text: str) -> Settings:
    project = tomllib.loads(text)
    tools = {name: value for name, value in project.get("tool", {}).items() if name in _PY_TOOLS}
    plugins = project.get("project", {}).get("entry-points", {}).get("pytest11", {})
    return {"tool": tools, "pytest11": plugins}


def _setup_cfg(text: str) -> Settings:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    about_tests = (name for name in parser.sections() if "pytest" in name or name.startswith("coverage"))
    plugins = parser.get("options.entry_points", "pytest11", fallback="")
    return {name: dict(parser[name]) for name in about_tests} | ({"pytest11": plugins} if plugins else {})


def _cargo_toml(text: str) -> Settings:
    manifest = tomllib.loads(text)
    targets = [manifest.get("lib", {}), *manifest.get("bin", []), *manifest.get("example", [])]
    told = [{key: one[key] for key in ("name", *_CARGO_KEYS) if key in one} for one in targets]
    return {
        "test": manifest.get("test", []),
        "targets": [one for one in told if one.keys() - {"name"}],
        "autotests": manifest.get("package", {}).get("autotests", True),
    }


_READERS: Mapping[str, Callable[[str], Settings]] = {
    "package.json": _package_json,
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "Cargo.toml": _cargo_toml,
}


def speaks_of_tests(path: str) -> bool:
    """Whether a file may say how tests are run, among other things."""
    return posixpath.basename(path) in _READERS


def differ(path: str, before: str | None, after: str | None) -> bool:
    """Whether two texts of a file (None: it is not there) say other things of how tests are run.

    A new package.json or Cargo.toml is of a new package: no command means it yet.
    """
    if before is None and posixpath.basename(path) in ("package.json", "Cargo.toml"):
        return False
    return _settings(path, before) != _settings(path, after)


def _settings(path: str, text: str | None) -> Settings:
    if text is None:
        return _settings(path, {"package.json": "{}"}.get(posixpath.basename(path), ""))
    try:
        return _READERS[posixpath.basename(path)](text)
    except (ValueError, AttributeError, TypeError, RecursionError, configparser.Error):
        return {"text": text}  # what cannot be read may say anything
