"""The manifests of deploy/: what they set and start exists, and what runs is locked down."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.__main__ import COMMANDS
from service.settings import SettingError, Settings
from tests.e2e.pages import ROOT

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
_SECRETS = {"EVBRIDGE_DATABASE_URL", "EVBRIDGE_DATABASE_DIRECT_URL", "EVBRIDGE_SECRETS_KEYS"}


def _read(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def _literals(path: Path) -> dict[str, str]:
    (generator,) = _read(path)[0]["configMapGenerator"]
    return dict(each.split("=", 1) for each in generator["literals"])


def _ours(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("EVBRIDGE_")}


@pytest.fixture
def pod() -> dict[str, Any]:
    (deployment,) = _read(KUBERNETES / "deployment.yaml")
    template: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return template


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod["initContainers"]
    yield from pod["containers"]


def test_every_setting_exists_and_no_secret_stands_in_a_manifest(pod: dict[str, Any]) -> None:
    base = _literals(KUBERNETES / "kustomization.yaml")
    tls = base | _literals(KUBERNETES / "tls" / "kustomization.yaml")
    named = {each["name"]: each["value"] for container in _containers(pod) for each in container.get("env", ())}
    for environ in (base | named, tls | named):
        Settings.from_environ(_ours(environ))
        assert not _SECRETS & environ.keys()
    with pytest.raises(SettingError):
        Settings.from_environ({**base, "EVBRIDGE_LISTENS": "0.0.0.0:1"})
    compose = _read(DEPLOY / "compose.yaml")[0]["services"]["evbridge"]["environment"]
    Settings.from_environ(_ours({name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text) for name, text in compose.items()}))
    assert all("${" in compose[name] for name in _SECRETS & compose.keys())


def test_what_is_started_is_a_command(pod: dict[str, Any]) -> None:
    started = [container["args"][0] for container in _containers(pod)]
    assert started == ["migrate", "serve"]
    assert set(started) <= COMMANDS.keys()


def test_what_runs_is_locked_down(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for container in _containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    compose = _read(DEPLOY / "compose.yaml")[0]["services"]
    server = compose["evbridge"]
    assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
    assert server["security_opt"] == ["no-new-privileges:true"]
    published = [port for service in compose.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_probes_and_services_lead_to_ports_that_are_served(pod: dict[str, Any]) -> None:
    (server,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    listens = int(_literals(KUBERNETES / "kustomization.yaml")["EVBRIDGE_OCPI_LISTEN"].rpartition(":")[2])
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert ports["ocpi"] == listens
    assert f"EVBRIDGE_LISTEN=0.0.0.0:{ports['grpc']}" in image
    assert server["startupProbe"]["grpc"] == server["readinessProbe"]["grpc"] == {"port": ports["grpc"]}
    for service in _read(KUBERNETES / "service.yaml"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    drain_s = Settings().drain_s + server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > drain_s + 10


def test_private_addresses_are_no_way_out_for_partners() -> None:
    (policy,) = _read(KUBERNETES / "network-policy.yaml")
    blocks = [to["ipBlock"] for rule in policy["spec"]["egress"] for to in rule["to"] if "ipBlock" in to]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    closed = {network for block in blocks for network in block["except"]}
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} <= closed


def test_what_compose_mounts_is_there() -> None:
    services = _read(DEPLOY / "compose.yaml")[0]["services"].values()
    mounted = [volume.split(":")[0] for service in services for volume in service.get("volumes", ())]
    files = [DEPLOY / path for path in mounted if path.startswith("./")]
    assert len(files) == 4
    assert all(path.exists() for path in files)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl")
@pytest.mark.parametrize("component", ["", "tls"])
def test_kustomize_makes_manifests_of_it(component: str, tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "base")
    if component:
        path = tmp_path / "base" / "kustomization.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("# components:", "components:"), encoding="utf-8")
    made = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "base"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    kinds = {each["kind"]: each for each in yaml.safe_load_all(made)}
    assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap"} <= kinds.keys()
    (server,) = kinds["Deployment"]["spec"]["template"]["spec"]["containers"]
    probe = server["readinessProbe"]
    assert probe["exec"]["command"] == ["evbridge", "health"] if component else probe["grpc"]
    assert kinds["ConfigMap"]["data"]["EVBRIDGE_ALLOW_PLAINTEXT"] == ("false" if component else "true")
