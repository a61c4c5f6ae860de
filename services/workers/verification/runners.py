"""How test runners are made to report, whatever command calls them.

pytest and node's runner take it from the environment, so that it works inside `make test` as well; before
`go` and `cargo` stand programs of ours on PATH. These four tell into a pipe, test by test. vitest and jest
take it from their arguments, which are added where the command's last part is `npm test` with a script that
calls them, or calls them itself.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from services.workers.verification.parse import ReportError
from services.workers.verification.reading import read_file

NODE_REPORTER = Path(__file__).with_name("node_reporter.mjs")
SHIMS = Path(__file__).with_name("shims")
PYTEST_PLUGIN = Path(__file__).with_name("witness") / "codeframe_witness.py"
WITNESS, JEST, OTHER = "witness", "jest.json", "report"

PREFIX = re.compile(r"--prefix[= ](?P<a>\S+)|-C[ =](?P<b>\S+)|\bcd\s+(?P<c>[^\s;&|]+)")
NPM_TEST = re.compile(r"\s*npm\b.*?\s(?:run\s+|run-script\s+)?(?:test|t|tst)\b.*", re.DOTALL)
SEPARATOR = re.compile(r"&&|\|\||[;\n|]")


@dataclass(frozen=True, slots=True)
class Reporting:
    """A command that reports: its shell line, the variables it needs, and where reports may be found then.

    `own` is where the command itself was told to write one. `witness` and `jest` are to be pipes.
    """

    line: str
    env: dict[str, str]
    own: tuple[Path, ...]
    witness: Path
    jest: Path


def reporting(command: str, checkout: Path, folder: Path, report: str = "") -> Reporting:
    """`command` made to report into `folder`; `report` is where it writes one by itself, in the checkout.

    In a command, {report} stands for a path to write JUnit XML to, as $CODEFRAME_REPORT does.
    """
    other = folder / OTHER
    line = command.replace("{report}", shlex.quote(str(other)))
    script = test_script(command, checkout)
    extra = _arguments(SEPARATOR.split(command)[-1], script, folder / JEST)
    env = {
        "CODEFRAME_REPORT": str(other),
        "CODEFRAME_WITNESS": str(folder / WITNESS),
        "PYTEST_ADDOPTS": shlex.join(_pytest_options(folder)),
        "NODE_OPTIONS": " ".join(_node_options(folder / WITNESS, f"{command} {script}")),
    }
    own = (checkout / report, other) if report else (other,)
    return Reporting(line + extra, env, own, folder / WITNESS, folder / JEST)


def test_script(command: str, checkout: Path) -> str:
    """The `test` script of the package.json that `command` seems to mean; empty where there is none."""
    found = PREFIX.search(command)
    folder = (found["a"] or found["b"] or found["c"]).strip("'\"") if found else "."
    try:
        script = json.loads(read_file(checkout / folder / "package.json", checkout) or b"")["scripts"]["test"]
    except (ReportError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return script if isinstance(script, str) else ""


def _pytest_options(folder: Path) -> list[str]:
    """xunit1 is the family that names files; a file that cannot be read hides no test of the others."""
    options = ["-p", PYTEST_PLUGIN.stem, "-o", f"cache_dir={folder / 'cache'}", "-o", "junit_family=xunit1"]
    return [*options, "--continue-on-collection-errors"]


def _node_options(place: Path, said: str) -> list[str]:
    """Our reporter beside those that the command asks for. Node wants a destination for each, or for none."""
    asked = len(re.findall(r"--test-reporter[= ]", said))
    destined = len(re.findall(r"--test-reporter-destination[= ]", said))
    options = [f'--test-reporter="{NODE_REPORTER.as_uri()}"', f'--test-reporter-destination="{place}"']
    if not asked:
        options.append("--test-reporter=spec")
    return options + ["--test-reporter-destination=stdout"] * max(0, (asked or 1) - destined)


def _arguments(part: str, script: str, place: Path) -> str:
    """What is to be added to a command whose last part is `part`."""
    is_npm = NPM_TEST.fullmatch(part) is not None
    said = script if is_npm else part
    if re.search(r"\bvitest\b", said):
        options = ["--reporter=default", "--reporter=json", f"--outputFile.json={place}"]
    elif re.search(r"\b(?:jest|react-scripts)\b", said):
        options = ["--json", f"--outputFile={place}"]
    else:
        return ""
    return (" -- " if is_npm and " -- " not in part else " ") + shlex.join(options)
