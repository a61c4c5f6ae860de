"""How a command ends other than well."""

import click

NOT_COMPLETED = 1
BAD_USAGE = 2
CANCELLED = 130


class CommandFailed(click.ClickException):
    """A command that cannot go on: one clear message, and an exit code."""

    def __init__(self, message: str, exit_code: int = NOT_COMPLETED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it of the instance
