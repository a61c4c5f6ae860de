"""Generates the Python API from the protos, into `codeframe/` and `buf/`.

python protos/generate.py            writes what changed, removes what is stale
python protos/generate.py --check    writes nothing; exits 1 if anything would change
"""

import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
VALIDATE = ROOT / "third_party" / "protovalidate"
# Folders whose generated modules are ours to write and to remove.
TARGETS = ("codeframe/v1", "codeframe/internal/v1", "buf/validate")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def main(arguments: Sequence[str]) -> int:
    check = "--check" in arguments
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        generate(fresh)
        changes = differences(fresh)
        for path in changes:
            print(f"{'differs from its proto' if check else 'generated'}: {path}")
            if not check:
                replace(fresh / path, ROOT / path)
    if check and changes:
        print("Run `make proto` and commit what it writes.")
        return 1
    return 0


def generate(out: Path) -> None:
    """Runs protoc for every proto into `out`; raises SystemExit where it refuses."""
    ours = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    vendored = sorted(str(path) for path in VALIDATE.rglob("*.proto"))
    services = [path for path in ours if "\nservice " in Path(path).read_text()]
    run_protoc(f"--python_out={out}", f"--mypy_out=quiet:{out}", *ours, *vendored)
    # Typed for both kinds of channel: ours are grpc.aio's, a user's may be plain ones.
    run_protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services)


def run_protoc(*arguments: str) -> None:
    bin_dir = Path(sys.executable).parent
    plugins = [f"--plugin={name}={bin_dir / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    includes = [f"-I{path}" for path in (PROTOS, VALIDATE, files("grpc_tools") / "_proto")]
    status = protoc.main(["protoc", *plugins, *includes, *arguments])
    if status != 0:
        raise SystemExit(status)


def differences(fresh: Path) -> list[Path]:
    """The generated files, relative to the root, that are not in the tree as in `fresh`."""
    paths = {path.relative_to(base) for base in (fresh, ROOT) for path in generated(base)}
    return sorted(path for path in paths if content(fresh / path) != content(ROOT / path))


def generated(base: Path) -> list[Path]:
    return [path for target in TARGETS for pattern in GENERATED for path in (base / target).glob(pattern)]


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def replace(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    else:
        target.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
