"""Writes the bill of materials of what ships: `python -m tools.sbom [FOLDER]`.

It is CycloneDX, and names every package of requirements.lock with its version, the digests of its files, its license,
and what it needs. The same lock file gives the same bytes.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement

from tools.third_party import ROOT

LOCK = ROOT / "requirements.lock"
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_PACKAGE = re.compile(r"^(\w[^\\\n]+) \\\n((?:    .*\n)+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:(\w+)")
_NEEDED_BY = re.compile(r"# (?:via |  )([a-z]\S*)")


class LicenseError(Exception):
    """A license that pyproject.toml does not accept, or none that can be understood."""


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    hashes: tuple[str, ...]
    needed_by: frozenset[str]
    license: str


def packages(lock: str) -> Iterator[Package]:
    """Those that this platform installs of the text of a lock file, in its order. Raises LicenseError."""
    for line, rest in _PACKAGE.findall(lock):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            version = str(requirement.specifier).removeprefix("==")
            needed_by = frozenset(_NEEDED_BY.findall(rest))
            yield Package(requirement.name, version, (*_HASH.findall(rest),), needed_by, license_of(requirement.name))


def license_of(name: str) -> str:
    """What the installed package declares, as an SPDX expression. Raises LicenseError."""
    metadata, licenses = distribution(name).metadata, _PYPROJECT["tool"]["evbridge"]["licenses"]
    declared = metadata["License-Expression"] or metadata["License"] or ""
    try:
        expression = canonicalize_license_expression(licenses["words"].get(declared, declared))
    except InvalidLicenseExpression:
        raise LicenseError(f"{name} is under {declared!r}: say in pyproject.toml what that is in SPDX") from None
    if others := set(re.findall(r"[\w.+-]+", expression)) - {"AND", "OR", *licenses["accepted"]}:
        raise LicenseError(f"{name} is under {expression}: pyproject.toml does not accept {', '.join(others)}")
    return expression


def bill(lock: str) -> str:
    """The bill of the text of a lock file, as JSON. Raises LicenseError."""
    project, found = _PYPROJECT["project"], list(packages(lock))
    ours = _component(ComponentType.APPLICATION, project["name"], project["version"], project["license"])
    theirs = {each.name: _component(ComponentType.LIBRARY, each.name, each.version, each.license) for each in found}
    bom = Bom(components=theirs.values(), serial_number=uuid5(NAMESPACE_OID, lock))
    bom.metadata.component = ours
    for each in found:
        digests = [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in each.hashes]
        files = XsUri(str(theirs[each.name].purl))
        reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=files, hashes=digests)
        theirs[each.name].external_references.add(reference)
    for name, component in {project["name"]: ours, **theirs}.items():
        bom.register_dependency(component, [theirs[each.name] for each in found if name in each.needed_by])
    bom.metadata.timestamp = None  # type: ignore[assignment]  # left out
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(wrong)
    return text


def _component(kind: ComponentType, name: str, version: str, expression: str) -> Component:
    purl = PackageURL("pypi", None, name, version)
    licenses = [LicenseFactory().make_from_string(expression)]
    return Component(type=kind, name=name, version=version, purl=purl, bom_ref=str(purl), licenses=licenses)


def main() -> None:
    folder = Path(*sys.argv[1:]) if sys.argv[1:] else ROOT / "dist"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evbridge.cdx.json"
    try:
        path.write_text(bill(LOCK.read_text(encoding="utf-8")) + "\n", encoding="utf-8")
    except LicenseError as error:
        sys.exit(str(error))
    print(path)


if __name__ == "__main__":
    main()
