"""python -m tests.branches: the share of branches that `make test` took, and whether it is enough.

Reads .coverage, prints a line a room and the modules that leave most, and exits 1 below the bound.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from coverage import Coverage

LEAST = 85.0
"""Percent of the branches of `services` and `gateway`."""

SHOWN = 10


def main() -> int:
    """Print what was covered. Returns the exit code."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:  # a report that fails removes its file itself
        report = Path(folder) / "report.json"
        coverage.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    total, taken, left = Counter[str](), Counter[str](), Counter[str]()
    for path, file in files.items():
        branches, covered = file["summary"]["num_branches"], file["summary"]["covered_branches"]
        for room in ("all", "/".join(Path(path).parts[:2])):
            total[room] += branches
            taken[room] += covered
        left[path] = branches - covered
    for room in sorted(name for name in total if total[name] > SHOWN):
        share = _percent(taken[room], total[room])
        print(f"{room:24} {taken[room]:5} of {total[room]:5} branches {share:6.1f} %")
    print("most are left in: " + ", ".join(f"{path} ({count})" for path, count in left.most_common(SHOWN)))
    share = _percent(taken["all"], total["all"])
    if share < LEAST:
        print(f"{share:.1f} % of the branches were taken, {LEAST:g} % are asked for", file=sys.stderr)
        return 1
    return 0


def _percent(part: int, whole: int) -> float:
    """Nothing of nothing is not enough."""
    return 100.0 * part / whole if whole else 0.0


if __name__ == "__main__":
    sys.exit(main())
