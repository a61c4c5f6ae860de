"""What can go wrong with the sandbox itself; a command that fails is a result, never an exception."""


class SandboxError(Exception):
    """The sandbox could not run a command; says nothing about the command."""


class SandboxUnavailable(SandboxError):
    """No way to hold commands works on this machine; the text says how to get one."""
