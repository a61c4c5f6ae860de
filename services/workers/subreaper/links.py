"""The links that stand while a command runs, and what of its folders is removed after it."""

import os
from contextlib import suppress


def remove(folder: str) -> None:
    """Remove a folder with all that it holds, however deep: Python's own way is a recursion."""
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (1, 2)]
    os.waitpid(os.posix_spawn("/bin/rm", ["rm", "-rf", "--", folder], {}, file_actions=silent), 0)


class Links:
    """The links of a command: what stands in their way stays, and what was made for them goes.

    A place is only used where no link leads to it: the tree belongs to commands that nobody trusts.
    """

    def __init__(self, wanted: dict[str, str]) -> None:
        self.wanted = wanted
        self.made: list[str] = []
        self.folders: list[str] = []

    def make(self) -> str:
        """Make them; a line for each that could not be made."""
        problems = ""
        for place, target in self.wanted.items():
            try:
                if os.path.islink(place) and os.readlink(place) == target:
                    os.unlink(place)  # left behind by a process that was killed
                if os.path.lexists(place):
                    continue
                self.make_folder(os.path.dirname(place))
                os.symlink(target, place)
                self.made.append(place)
            except OSError as problem:
                problems += f"cannot link {place}: {problem.strerror}\n"
        return problems

    def make_folder(self, folder: str) -> None:
        if not os.path.lexists(folder):
            self.make_folder(os.path.dirname(folder))
            os.mkdir(folder)
            self.folders.append(folder)
        elif os.path.realpath(folder) != folder:
            raise OSError(0, f"{folder} is not where it seems")

    def remove(self) -> None:
        """Remove them, and the folders made for them with all that they hold."""
        for place in self.made:
            with suppress(OSError):
                if os.path.realpath(os.path.dirname(place)) == os.path.dirname(place) and os.path.islink(
                    place
                ):
                    os.unlink(place)
        for folder in reversed(self.folders):
            if os.path.realpath(folder) == folder:
                remove(folder)
