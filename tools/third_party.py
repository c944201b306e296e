"""Lays the protos of others out in .deps/proto, where protoc and buf find them: `python -m tools.third_party`.

They are not copied into the repository: the wheels that the server runs with bring them. Google's come as sources.
buf/validate/validate.proto comes only as the descriptor embedded in protovalidate, and is printed from it.
"""

import importlib
import shutil
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THIRD_PARTY = ROOT / ".deps" / "proto"

GOOGLE_FILES = (
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/http.proto",
    "google/rpc/code.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "google/type/decimal.proto",
)
VALIDATE_FILE = "buf/validate/validate.proto"


def lay_out(target: Path = THIRD_PARTY) -> None:
    """Does nothing when the target was made from the installed wheels, by this list of files."""
    google = distribution("googleapis-common-protos")
    protovalidate = distribution("protovalidate")
    stamp = target / ".stamp"
    wanted = "\n".join((google.version, protovalidate.version, *GOOGLE_FILES, VALIDATE_FILE))
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(target, ignore_errors=True)
    for name in GOOGLE_FILES:
        _write(target / name, Path(str(google.locate_file(name))).read_text())
    _write(target / VALIDATE_FILE, _validate_source())
    _write(stamp, wanted)  # last: an interrupted run leaves none


def validate_descriptor() -> bytes:
    """Returns the serialized FileDescriptorProto of validate.proto. The wheel has no public way to it."""
    module = importlib.import_module("protovalidate._gen.buf.validate.validate_pb")
    descriptor: bytes = module.desc().proto.to_binary()
    return descriptor


def _validate_source() -> str:
    # Imported here, as is protovalidate: they take longer than the whole of a run that finds nothing to do.
    from google.protobuf.descriptor_pool import DescriptorPool

    from tools.proto_source import print_source

    pool = DescriptorPool()  # of its own: the default one may hold another version of the file
    for name in ("descriptor", "duration", "field_mask", "timestamp"):
        pool.AddSerializedFile(importlib.import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(validate_descriptor())
    return print_source(pool, VALIDATE_FILE)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    lay_out()
