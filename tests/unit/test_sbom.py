"""The bill of materials: all that is locked for this platform is in it, under licenses that somebody accepted."""

import json
import re

import pytest

from tools import sbom

LOCKED = sbom.LOCK.read_text(encoding="utf-8")


def test_everything_that_ships_is_in_the_bill() -> None:
    text = sbom.bill(LOCKED)
    bill = json.loads(text)
    listed = {each["name"]: each for each in bill["components"]}
    unconditional = re.findall(r"^([\w-]+)==(\S+) \\$", LOCKED, re.MULTILINE)
    assert len(unconditional) > 30
    for name, version in unconditional:
        assert listed[name]["version"] == version
    for each in listed.values():
        (files,) = each["externalReferences"]
        assert files["hashes"]
        assert all(digest["content"] in LOCKED for digest in files["hashes"])
        assert each["licenses"]
    needs = {each["ref"]: each.get("dependsOn", ()) for each in bill["dependencies"]}
    ours = bill["metadata"]["component"]["bom-ref"]
    assert listed["grpcio"]["bom-ref"] in needs[ours]
    reached, due = set(), [ours]
    while due:
        reached.add(ref := due.pop())
        due += set(needs[ref]) - reached
    assert reached == needs.keys(), "something ships that nothing needs"
    assert sbom.bill(LOCKED) == text


def test_a_license_that_nobody_accepted_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    licenses = {"accepted": ["MIT"], "words": {}}
    monkeypatch.setitem(sbom._PYPROJECT["tool"]["evbridge"], "licenses", licenses)
    assert sbom.license_of("pyjwt") == "MIT"
    with pytest.raises(sbom.LicenseError, match=r"^cryptography is under .*: pyproject.toml does not accept "):
        sbom.license_of("cryptography")
    with pytest.raises(sbom.LicenseError, match="protobuf is under '3-Clause BSD License'"):
        sbom.license_of("protobuf")
