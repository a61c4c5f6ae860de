"""Rules of the house that no linter knows."""

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
DOCUMENTS = [name for name in FILES if name.endswith(".md") and not name.startswith("demo/")]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_name_no_registry_and_hash_everything(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "--index" not in text
    pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
    assert pinned
    assert all(line.endswith("\\") for line in pinned), "every pin goes on with its hashes"


def test_architecture_names_what_is_there_and_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    there = {*FILES, *(f"{folder}/" for name in FILES for folder in PurePosixPath(name).parents)}
    house = text.partition("## The house\n\n```\n")[2].partition("```")[0]
    above, rooms = "", set[str]()
    for line in house.splitlines():
        name = line.split()[0]
        above = above if line.startswith(" ") else name
        rooms.add(above + name if line.startswith(" ") else name)
    assert len(rooms) > 30
    assert rooms - there == set()
    packages = {f"{PurePosixPath(name).parent}/" for name in FILES if name.endswith("/__init__.py")}
    assert packages - rooms <= {"services/", "codeframe/internal/", "demo/project/shop/"}
    looked_at = re.findall(r"`([a-z_]+(?:/|\.py))`", text.partition("## Where to look")[2])
    assert len(looked_at) > 40
    assert [each for each in looked_at if not any(f"/{path}".endswith(f"/{each}") for path in there)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (ROOT / document).parent.joinpath(link).exists()] == []
