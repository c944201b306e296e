"""The released protos compile alone, and the image that lies beside them says the same."""

import tarfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from tools.generate import PROTOS
from tools.release_protos import pack


def test_an_archive_compiles_without_the_repository(tmp_path: Path) -> None:
    path = pack(tmp_path)
    assert path.read_bytes() == pack(tmp_path / "again").read_bytes()
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("evbridge-protos-*/")
    names = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("evbridge/**/*.proto"))
    assert names == sorted(each.relative_to(PROTOS).as_posix() for each in PROTOS.rglob("*.proto"))
    assert compiled(folder, names) == FileDescriptorSet.FromString((folder / "evbridge.binpb").read_bytes())
    # The control: the archive is all that was looked at.
    (folder / "google" / "type" / "decimal.proto").unlink()
    assert compiled(folder, names) is None


def compiled(folder: Path, names: list[str]) -> FileDescriptorSet | None:
    """With what protoc brings; None when it does not compile."""
    image = folder / "compiled"
    paths = (folder, files("grpc_tools") / "_proto")
    options = ("--include_imports", "--include_source_info", f"--descriptor_set_out={image}")
    status = protoc.main(["protoc", *(f"--proto_path={each}" for each in paths), *options, *names])
    return None if status else FileDescriptorSet.FromString(image.read_bytes())
