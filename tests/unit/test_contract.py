"""The tools that guard the contract notice what they are there for."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

from tools.generate import GENERATED, PROTOS, refresh
from tools.proto_source import Unprintable, print_source
from tools.third_party import ROOT, THIRD_PARTY, VALIDATE_FILE, lay_out, validate_descriptor

COMPANY = "evbridge/v1/company.proto"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of all that buf reads."""
    lay_out()
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(PROTOS, tmp_path / "protos")
    shutil.copytree(THIRD_PARTY, tmp_path / ".deps" / "proto")
    return tmp_path


def breaking(workspace: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).with_name("buf")
    against = ROOT / "gen" / "released.binpb"
    command = [buf, "breaking", "protos", "--against", against, "--exclude-imports"]
    return subprocess.run(command, cwd=workspace, capture_output=True, text=True)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} does not stand once in {path}"
    path.write_text(text.replace(old, new))


def test_the_printed_validate_proto_compiles_to_the_descriptor_it_came_from(tmp_path: Path) -> None:
    lay_out()
    compiled = tmp_path / "compiled.binpb"
    google = files("grpc_tools") / "_proto"
    paths = [f"--proto_path={THIRD_PARTY}", f"--proto_path={google}"]
    assert protoc.main(["protoc", *paths, f"--descriptor_set_out={compiled}", VALIDATE_FILE]) == 0
    (printed,) = FileDescriptorSet.FromString(compiled.read_bytes()).file
    # Through one serializer: the wheel's orders the bytes of the same content in another way.
    embedded = FileDescriptorProto.FromString(validate_descriptor())
    assert printed.SerializeToString(deterministic=True) == embedded.SerializeToString(deterministic=True)


def test_a_file_the_printer_cannot_express_is_refused() -> None:
    pool = DescriptorPool()
    pool.AddSerializedFile(FileDescriptorProto.DESCRIPTOR.file.serialized_pb)
    pool.Add(FileDescriptorProto(name="later.proto", syntax="proto3"))
    with pytest.raises(Unprintable, match=r"later\.proto: syntax proto3"):
        print_source(pool, "later.proto")


def test_third_party_protos_are_laid_out_again_only_after_other_wheels_were_installed(tmp_path: Path) -> None:
    target = tmp_path / "proto"
    lay_out(target)
    kept = target / "kept"
    kept.touch()
    lay_out(target)
    assert kept.exists()
    (target / ".stamp").write_text("other wheels")
    lay_out(target)
    assert not kept.exists()
    assert (target / VALIDATE_FILE).exists()


def test_the_released_contract_is_kept(workspace: Path) -> None:
    answer = breaking(workspace)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("optional bool is_cpo = 5 [", "optional string is_cpo = 5 [", "changed type"),
        ("string next_page_token = 2;", "string next_page_token = 3;", "next_page_token"),
        ("rpc GetCompany(", "rpc FetchCompany(", '"GetCompany"'),
        ("returns (google.protobuf.Empty)", "returns (Company)", "response type"),
    ],
)
def test_a_change_that_breaks_a_client_is_found(workspace: Path, old: str, new: str, complaint: str) -> None:
    replace(workspace / "protos" / COMPANY, old, new)
    answer = breaking(workspace)
    assert answer.returncode == 100, answer.stderr
    assert complaint in answer.stdout


def test_a_deleted_file_is_found(workspace: Path) -> None:
    (workspace / "protos/evbridge/partner/chargeprice/v1/company.proto").unlink()
    answer = breaking(workspace)
    assert answer.returncode == 100
    assert "deleted" in answer.stdout


def test_an_added_field_breaks_nobody(workspace: Path) -> None:
    old = "string next_page_token = 2;"
    replace(workspace / "protos" / COMPANY, old, f"{old}\n  int32 total_size = 3;")
    assert breaking(workspace).returncode == 0


def test_generated_code_that_does_not_match_the_contract_is_named_and_refreshed(tmp_path: Path) -> None:
    generated = tmp_path / "python"
    shutil.copytree(GENERATED, generated, ignore=shutil.ignore_patterns("__pycache__"))
    refresh(generated)

    edited, lost, left = "evbridge/v1/company_pb2.py", "buf/validate/validate_pb2.pyi", "evbridge/v1/gone_pb2.py"
    (generated / edited).write_text("edited")
    (generated / lost).unlink()
    (generated / left).touch()
    assert refresh(generated, check=True) == sorted([edited, lost, left])
    assert (generated / left).exists()

    refresh(generated)
    assert refresh(generated, check=True) == []
    assert not (generated / left).exists()


def test_only_files_with_services_have_stubs(tmp_path: Path) -> None:
    refresh(tmp_path)
    assert (tmp_path / "evbridge/v1/company_pb2_grpc.py").exists()
    assert not (tmp_path / "evbridge/v1/error_reason_pb2_grpc.py").exists()


def test_each_file_names_its_java_package_and_class() -> None:
    """AIP-191. Python, Go, TypeScript and C# make theirs of the package."""
    paths = sorted(PROTOS.rglob("*.proto"))
    assert len(paths) > 50
    for path in paths:
        package = ".".join(path.parent.relative_to(PROTOS).parts)
        options = (
            "option java_multiple_files = true;",
            f'option java_outer_classname = "{path.stem.title().replace("_", "")}Proto";',
            f'option java_package = "com.{package}";',
        )
        assert "\n".join(options) in path.read_text(), path
