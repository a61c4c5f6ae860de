"""Real vitest and jest, as `npm test`: installed once for what the lock says, in the checkout's own cache."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.workers.sandbox import Sandbox
from services.workers.setup import Environment, Setup, Toolchain, find_toolchain
from services.workers.verification import TestReport, verify

# A cold cache installs from npm.
pytestmark = [pytest.mark.timeout(300), pytest.mark.thorough]

CHECKOUT = Path(__file__).parents[2]
SOURCES = CHECKOUT / "tests" / "npm_runners"
CACHE = CHECKOUT / ".cache" / "npm_runners"
NAMES = ("package.json", "package-lock.json", ".npmrc")

VITEST = {
    "package.json": json.dumps({"type": "module", "scripts": {"test": "vitest run"}}),
    "src/add.js": "export const add = (a, b) => a + b;\n",
    "src/add.test.js": (
        "import { describe, expect, it } from 'vitest';\nimport { add } from './add.js';\n"
        "describe('add', () => {\n  it('adds', () => { expect(add(1, 2)).toBe(3); });\n"
        "  it.skip('later', () => {});\n});\n"
    ),
}
JEST = {
    "package.json": json.dumps({"scripts": {"test": "jest"}}),
    "src/add.js": "exports.add = (a, b) => a + b;\n",
    "src/add.test.js": (
        "const { add } = require('./add');\n"
        "describe('add', () => {\n  it('adds', () => { expect(add(1, 2)).toBe(3); });\n"
        "  it.skip('later', () => {});\n});\n"
    ),
}


@pytest.fixture(scope="module")
def toolchain() -> Iterator[Toolchain]:
    """The node that requirements-dev.lock pins; the machine's may be too old for the runners."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        yield find_toolchain()


@pytest.fixture(scope="module")
def installed(toolchain: Toolchain) -> Path:
    """A folder with the runners in its node_modules."""
    assert toolchain.node is not None
    assert toolchain.npm is not None
    digest = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in NAMES))
    folder = CACHE / digest.hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = CACHE / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name in NAMES:
                shutil.copy(SOURCES / name, unfinished / name)
            npm = (toolchain.node, toolchain.npm / "bin" / "npm-cli.js", "ci", "--ignore-scripts")
            subprocess.run([*npm, "--no-audit", "--no-fund"], cwd=unfinished, check=True, timeout=250)
            unfinished.rename(folder)
    return folder


@pytest.fixture
async def sandbox(tmp_path: Path) -> Sandbox:
    data = tmp_path / "data"
    return await Sandbox.open("auto", scratch=data / "scratch", hidden=(data, Path.home()))


@pytest.fixture
async def environment(toolchain: Toolchain, installed: Path, sandbox: Sandbox, tmp_path: Path) -> Environment:
    cache = tmp_path / "data" / "environments"
    cache.mkdir(parents=True)
    setup = Setup(sandbox, cache, toolchain, network=False)
    return await setup.prepare(tmp_path, paths=["node_modules"], repository=str(installed))


def states(report: TestReport) -> dict[str, str]:
    assert report.problem == "", report.output
    return {test.id: test.state.value for test in report.tests}


@pytest.mark.parametrize("files", [VITEST, JEST], ids=["vitest", "jest"])
async def test_npm_test(
    files: dict[str, str], sandbox: Sandbox, environment: Environment, tmp_path: Path
) -> None:
    async def check(name: str, changed: dict[str, str]) -> TestReport:
        for path, text in {**files, **changed}.items():
            place = tmp_path / "data" / "attempts" / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return await verify(
            sandbox, environment, tmp_path / "data" / "attempts" / name, "npm test", timeout=100
        )

    adds, later = "src/add.test.js > add > adds", "src/add.test.js > add > later"
    report = await check("green", {})
    assert (states(report), report.exit_code) == ({adds: "passed", later: "skipped"}, 0)
    report = await check("red", {"src/add.js": files["src/add.js"].replace("a + b", "a - b")})
    assert (states(report), report.exit_code) == ({adds: "failed", later: "skipped"}, 1)
    assert "Expected: 3" in report.tests[0].message or "expected -1 to be 3" in report.tests[0].message
    report = await check("broken", {"src/add.test.js": "import nothing from './gone.js';\n"})
    assert (states(report), report.exit_code) == ({"src/add.test.js": "error"}, 1)
