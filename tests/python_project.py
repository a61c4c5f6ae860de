"""A project in Python, with an environment of its own that was made without a network."""

import compileall
import os
import shutil
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.git_project import git
from tests.wheelhouse import PYTEST


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pytest. One a module: what a test does to it, no other module sees."""
    folder = tmp_path_factory.mktemp("python") / "venv"
    make_python(folder)
    return folder


def make_python(folder: Path) -> None:
    """A Python environment with pytest in it, made without a network."""
    venv.create(folder, symlinks=True, with_pip=False)
    packages = next(folder.glob("lib/python3*/site-packages"))
    for name in PYTEST:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), packages / file)
    compileall.compile_dir(packages, quiet=2)


def python_project(where: Path, python: Path, files: dict[str, str]) -> str:
    """A repository with a commit of these files, and a Python environment that git ignores; the commit."""
    shutil.copytree(python, where / ".venv", symlinks=True, copy_function=os.link)
    git(where, "init", "--quiet")
    for name, text in {".gitignore": ".venv/\n__pycache__/\n", **files}.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "-m", "first")
    return git(where, "rev-parse", "HEAD")
