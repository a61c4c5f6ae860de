"""How the demo ends other than well."""


class DemoFailed(Exception):
    """The demo cannot go on. The message says why, and where to look."""
