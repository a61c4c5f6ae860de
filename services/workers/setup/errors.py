"""How setup fails."""


class SetupFailed(Exception):
    """A workspace could not be made able to run the project's checks.

    `command` is what failed (empty where nothing was run), `exit_code` its exit code or None, `output` its
    output, bounded. The text says all of it in a few lines.
    """

    def __init__(
        self, reason: str, command: str = "", exit_code: int | None = None, output: str = ""
    ) -> None:
        said = output.strip()[-2000:]
        super().__init__("\n".join(filter(None, [reason, f"$ {command}" if command else "", said])))
        self.reason = reason
        self.command = command
        self.exit_code = exit_code
        self.output = output
