"""Guards the public API: `descriptor.txtpb` is `codeframe.v1` as it was last accepted.

python protos/snapshot.py             exits 1 if the protos say anything else, and names what breaks clients
python protos/snapshot.py --accept    takes them as they are

Comments are not part of it, nor are imports, nor the private `codeframe.internal.v1`.
"""

import difflib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet

# Without these options known, the text would show them as bare numbers.
from buf.validate import validate_pb2  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "protos" / "descriptor.txtpb"
BUF = Path(sys.executable).parent / "buf"


def main(arguments: Sequence[str]) -> int:
    everything = build()
    now = text(public(everything))
    if "--accept" in arguments:
        SNAPSHOT.write_text(now)
        return 0
    accepted = SNAPSHOT.read_text()
    if now == accepted:
        return 0
    names = ("accepted", "now")
    sys.stdout.writelines(difflib.unified_diff(accepted.splitlines(True), now.splitlines(True), *names, n=1))
    print("The public API differs from protos/descriptor.txtpb. Breaking for clients:", flush=True)
    if report_breaking(everything, accepted):
        print("nothing.")
    print("If it is meant: `make proto-accept`, and a line in CHANGELOG.md.")
    return 1


def build() -> FileDescriptorSet:
    """The public protos with their imports, as buf compiles them."""
    what: list[str | Path] = [ROOT, "--path", ROOT / "protos" / "codeframe" / "v1", "--exclude-source-info"]
    command = [BUF, "build", *what, "--as-file-descriptor-set", "--output", "-#format=binpb"]
    built = subprocess.run(command, stdout=subprocess.PIPE)
    if built.returncode != 0:
        raise SystemExit(built.returncode)
    return FileDescriptorSet.FromString(built.stdout)


def public(files: FileDescriptorSet) -> FileDescriptorSet:
    return FileDescriptorSet(file=[file for file in files.file if file.package == "codeframe.v1"])


def text(files: FileDescriptorSet) -> str:
    ordered = FileDescriptorSet(file=sorted(files.file, key=lambda file: file.name))
    return text_format.MessageToString(ordered)


def report_breaking(now: FileDescriptorSet, accepted: str) -> bool:
    """Prints each change that breaks a client; true if there is none."""
    before = FileDescriptorSet(file=[file for file in now.file if file.package != "codeframe.v1"])
    text_format.Parse(accepted, before)
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for name, files in (("now", now), ("before", before)):
            paths.append(Path(scratch) / f"{name}.binpb")
            paths[-1].write_bytes(files.SerializeToString())
        compared = subprocess.run([BUF, "breaking", paths[0], "--against", paths[1]], cwd=ROOT)
    return compared.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
