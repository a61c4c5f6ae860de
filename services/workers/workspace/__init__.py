"""The workspace: where an attempt works, and how its work gets into the repository.

    data = DataFolder(root, Git(os.environ))              # one a worker; `await data.open()` takes its lock
    repository = data.repository(request.repository)      # a bare clone, made when first obtained
    await repository.obtain(base)
    worktree = data.worktree(repository, data.attempt(request.attempt_id) / "tree")
    await worktree.check_out(base)
    branch = Branch(worktree, task.branch, base, base, message, clock, note)
    await branch.save()                                   # commits what changed, and pushes

A `WorkNote` beside a worktree says whose work it holds: where the worker is killed, its next start keeps
what was not pushed. All of it raises GitError where git cannot.
"""

from services.workers.workspace.branch import Branch, commit_message
from services.workers.workspace.data_folder import DataFolder, DataFolderError
from services.workers.workspace.repository import Repository, TooManyChanges
from services.workers.workspace.unpushed import WorkNote
from services.workers.workspace.worktree import Worktree

__all__ = [
    "Branch",
    "DataFolder",
    "DataFolderError",
    "Repository",
    "TooManyChanges",
    "WorkNote",
    "Worktree",
    "commit_message",
]
