"""Real packages for pip without a network: wheels made of what the development environment has installed."""

import importlib.metadata
import zipfile
from collections.abc import Iterable
from pathlib import Path

PYTEST = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")


def make_wheels(folder: Path, names: Iterable[str] = PYTEST) -> None:
    """A wheel in `folder` of each of these installed distributions; they must be pure Python."""
    for name in names:
        found = importlib.metadata.distribution(name)
        files = [file for file in found.files or () if ".." not in file.parts and file.suffix != ".pyc"]
        stem = f"{name}-{found.version}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for file in files:
                if file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                    wheel.write(str(file.locate()), str(file))
            info = next(file.parent for file in files if file.name == "METADATA")
            wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """A wheel in `folder` of a package with these files (path -> text)."""
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, **metadata}.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in (*files, *metadata)))
