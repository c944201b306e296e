"""Generates gen/ from the contract: `python -m tools.generate`, or with `--check` only tells what is stale.

The generated code is committed, so that a clone works and a review sees what a contract change does to callers.
buf/validate is generated with it because ours imports it and no wheel brings it for google.protobuf.
"""

import argparse
import sys
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from tools.third_party import ROOT, THIRD_PARTY, VALIDATE_FILE, lay_out

PROTOS = ROOT / "protos"
GENERATED = ROOT / "gen" / "python"


def refresh(generated: Path, *, check: bool = False) -> list[str]:
    """Makes the folder hold exactly what the contract gives, or only compares. Returns the files that differ(ed).

    Raises SystemExit, after protoc has said why, when the contract does not compile.
    """
    wanted = _outputs()
    present = {_name(path, generated): path for path in _sources(generated)}
    stale = sorted(
        name
        for name in wanted.keys() | present
        if name not in present or present[name].read_bytes() != wanted.get(name)
    )
    if check:
        return stale
    for name in stale:
        path = generated / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[name])
        else:
            path.unlink()
    return stale


def _outputs() -> dict[str, bytes]:
    """Returns the content of every generated file under its path."""
    with TemporaryDirectory() as folder:
        descriptors = Path(folder, "descriptors.binpb")
        out = Path(folder, "out")
        out.mkdir()
        compile_contract(
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            *_plugin("mypy", out),
            *_plugin("mypy_grpc", out),
            f"--descriptor_set_out={descriptors}",
        )
        compiled = FileDescriptorSet.FromString(descriptors.read_bytes())
        without_services = tuple(
            f"{file.name.removesuffix('.proto')}_pb2_grpc." for file in compiled.file if not file.service
        )
        outputs = {_name(path, out): path.read_bytes() for path in _sources(out)}
    return {name: content for name, content in outputs.items() if not name.startswith(without_services)}


def compile_contract(*outputs: str) -> None:
    """Runs protoc over all of protos/, with the options that say what it writes.

    Raises SystemExit, after protoc has said why, when the contract does not compile.
    """
    lay_out()
    contract = sorted(_name(path, PROTOS) for path in PROTOS.rglob("*.proto"))
    folders = (PROTOS, THIRD_PARTY, files("grpc_tools") / "_proto")
    status = protoc.main(["protoc", *(f"--proto_path={each}" for each in folders), *outputs, *contract, VALIDATE_FILE])
    if status:
        raise SystemExit(status)


def _plugin(name: str, out: Path) -> tuple[str, str]:
    """Names mypy-protobuf's plugin by its path: the virtual environment need not be activated."""
    return f"--plugin={Path(sys.executable).with_name(f'protoc-gen-{name}')}", f"--{name}_out=quiet:{out}"


def _sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".py", ".pyi")]


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.generate", description="Generates gen/ from protos/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    stale = [f"python/{name}" for name in refresh(GENERATED, check=check)]
    from tools import service_config  # reads what was just generated

    if not service_config.TARGET.exists() or service_config.TARGET.read_text() != service_config.text():
        stale.append(service_config.TARGET.name)
        if not check:
            service_config.TARGET.write_text(service_config.text())
    for name in stale:
        print(f"{'stale' if check else 'refreshed'}: gen/{name}")
    if check and stale:
        print("gen/ does not match protos/: run `make gen` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
