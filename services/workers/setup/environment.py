"""What setup made, and how a command on a checkout uses it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from services.workers.sandbox import Command, Limits, shell

# Said to every command of a project: no colours, nothing asked, nothing left in the tree.
EVERYWHERE: Mapping[str, str] = MappingProxyType(
    {
        "CI": "true",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
    }
)


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment for every checkout of a project; nothing in it can be written by a command.

    `path` comes first on PATH. `sources` are folders of the checkout (relative) that Python imports from:
    what an editable install would link to, and so made anew for each checkout. `links` are pairs of a
    place in the checkout and its target, absolute or, where it is the project's own (an npm workspace),
    in the checkout too.
    """

    digest: str = ""
    path: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    def command(
        self,
        line: str,
        checkout: Path,
        *,
        timeout: float = 300.0,
        writable: tuple[Path, ...] = (),
        readable: tuple[Path, ...] = (),
        env: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        imports: tuple[Path, ...] = (),
    ) -> Command:
        """The shell line, run at the root of `checkout`, which it may write; no link may lead there.

        Python finds what is in `imports` before all else.
        """
        variables = {**EVERYWHERE, **self.env}
        if imports or self.sources:
            sources = (checkout / source for source in self.sources)
            variables["PYTHONPATH"] = ":".join(map(str, (*imports, *sources)))
        return Command(
            argv=shell(line),
            cwd=checkout,
            writable=(checkout, *writable),
            readable=(*self.readable, *readable),
            path=self.path,
            env={**variables, **(env or {})},
            links={checkout / place: checkout / target for place, target in self.links},
            timeout=timeout,
            limits=limits or Limits(),
        )
