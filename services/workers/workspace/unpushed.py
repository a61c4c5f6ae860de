"""Work that a worker left when it was killed: kept under a ref of its clone, never deleted, only reported."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from services.runtime.git import GitError
from services.workers.workspace.worktree import Worktree

KEPT = "refs/codeframe/kept/"
NOTE = "work.json"


@dataclass(frozen=True, slots=True)
class WorkNote:
    """Whose work a workspace holds. `commit` is its last one; `pushed` says that the repository has it."""

    attempt_id: str
    repository: str
    branch: str
    commit: str
    pushed: bool

    def write(self, folder: Path) -> None:
        """Keep it in an attempt's folder, whole or not at all."""
        made = folder / f"{NOTE}.new"
        made.write_text(json.dumps(asdict(self)))
        os.replace(made, folder / NOTE)


def read_note(folder: Path) -> WorkNote | None:
    """The note of an attempt's folder; None where it holds no work of its own, as in a verification."""
    try:
        return WorkNote(**json.loads((folder / NOTE).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise GitError(f"{folder / NOTE} cannot be read: {error}") from None


async def keep_unpushed(note: WorkNote, worktree: Worktree) -> str:
    """Keep what the repository does not have of an attempt's work, under a ref of its clone.

    Returns the ref; empty where the repository has it all. Raises GitError.
    """
    repository = worktree.repository
    await worktree.take_up()
    tree, commit = await worktree.tree(), note.commit
    if tree != await repository.tree(commit):
        said = f"Work of {note.attempt_id} that its worker left when it was killed\n"
        commit = await repository.record(tree, commit, said)
    elif note.pushed:
        return ""
    ref = f"{KEPT}{note.branch.removeprefix('codeframe/')}"
    await repository.run("update-ref", ref, commit)
    return ref
