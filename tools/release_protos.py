"""Packs the contract for those who build a client elsewhere: `python -m tools.release_protos [FOLDER]`.

The archive holds the protos with all that they import but what protoc brings, the same as a descriptor image (a
FileDescriptorSet with comments and imports), and gRPC's service config. The same sources give the same bytes.
"""

import gzip
import sys
import tarfile
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from grpc_tools import protoc

from tools import service_config
from tools.generate import PROTOS
from tools.third_party import ROOT, THIRD_PARTY, lay_out

_README = """The contract of evbridge {version}.

    protoc -I . --java_out=OUT evbridge/v1/*.proto evbridge/options/v1/*.proto buf/validate/*.proto

evbridge/v1 is the service's own API, evbridge/partner the partners' as it serves them. buf/validate is to be compiled
with them; google/api, google/rpc and google/type come with most languages' packages of Google's common protos.
evbridge.binpb is all of it as a FileDescriptorSet, for grpcurl -protoset and the like. service_config.json is what a
client may repeat by itself.
"""


def pack(folder: Path) -> Path:
    """Raises SystemExit, after protoc has said why, when the contract does not compile."""
    lay_out()
    name = f"evbridge-protos-{version('evbridge')}"
    path = folder / f"{name}.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for inside, content in sorted(_contents().items()):
            member = tarfile.TarInfo(f"{name}/{inside}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


def _contents() -> dict[str, bytes]:
    protos = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for root in (PROTOS, THIRD_PARTY)
        for path in root.rglob("*.proto")
    }
    return protos | {
        "LICENSE": (ROOT / "LICENSE").read_bytes(),
        "README": _README.format(version=version("evbridge")).encode(),
        "evbridge.binpb": _image([name for name in protos if name.startswith("evbridge/")]),
        service_config.TARGET.name: service_config.TARGET.read_bytes(),
    }


def _image(names: list[str]) -> bytes:
    roots = (PROTOS, THIRD_PARTY, files("grpc_tools") / "_proto")
    with TemporaryDirectory() as folder:
        image = Path(folder, "image.binpb")
        options = ("--include_imports", "--include_source_info", f"--descriptor_set_out={image}")
        if status := protoc.main(["protoc", *(f"--proto_path={root}" for root in roots), *options, *sorted(names)]):
            raise SystemExit(status)
        return image.read_bytes()


if __name__ == "__main__":
    print(pack(Path(*sys.argv[1:]) if sys.argv[1:] else ROOT / "dist"))
