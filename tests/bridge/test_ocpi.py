"""OCPI's contract on the channel: addresses that the party gave out, and envelopes that say how it went."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from evbridge.partner.ocpi.v2 import versions_pb2 as versions

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.ports import Enveloped
from service.bridge.registry import Registry
from service.domain.partner_error import (
    PartnerCredentialRefused,
    PartnerError,
    PartnerFault,
    PartnerNotFound,
    PartnerRejected,
    PartnerUnavailable,
)
from service.domain.target import Target
from service.errors import EgressDenied, InvalidArgument
from service.partners.ocpi import errors as ocpi
from tests.bridge.fake_ports import FakePorts
from tests.partners import OcpiPartner

REGISTRY = Registry.of([versions.DESCRIPTOR])
LIST, DETAILS = REGISTRY.operations.values()


@dataclass
class OcpiPorts(FakePorts):
    async def target(self, tenant_id: str, integration_id: str) -> Target:
        target = await super().target(tenant_id, integration_id)
        return Target(tenant_id, integration_id, "ocpi", target.base_url, target.credential, 1)


@pytest.fixture
async def party() -> AsyncIterator[OcpiPartner]:
    async with OcpiPartner().listening() as listening:
        yield listening


@pytest.fixture
def channel(party: OcpiPartner, egress: Egress) -> PartnerChannel:
    ports = OcpiPorts(f"{party.url}/ocpi/versions", key=party.authorization.removeprefix("Token "))
    return PartnerChannel(REGISTRY, ports, ports, egress, {"ocpi": ocpi})


async def test_details_are_read_where_the_versions_say(channel: PartnerChannel, party: OcpiPartner) -> None:
    listed = (await channel.call(LIST, versions.ListVersionsRequest(integration_id="cp"), tenant_id="acme")).message
    request = versions.GetVersionDetailsRequest(integration_id="cp", url=listed.data[1].url)
    details = (await channel.call(DETAILS, request, tenant_id="acme")).message
    assert (details.status_code, details.data.version) == (1000, "2.1.1")
    assert [path for path, _ in party.requests] == ["/ocpi/versions", "/ocpi/2.1.1"]


@pytest.mark.parametrize("url", ["", "http://elsewhere.example/ocpi", "https://127.0.0.1"])
async def test_no_address_and_one_elsewhere_are_not_called(
    channel: PartnerChannel, party: OcpiPartner, url: str
) -> None:
    request = versions.GetVersionDetailsRequest(integration_id="cp", url=url)
    with pytest.raises(EgressDenied if url else InvalidArgument):
        await channel.call(DETAILS, request, tenant_id="acme")
    assert not party.requests


async def test_a_refusal_carries_the_partys_code(channel: PartnerChannel, party: OcpiPartner) -> None:
    party.authorization = "Token other"
    with pytest.raises(PartnerCredentialRefused) as caught:
        await channel.call(LIST, versions.ListVersionsRequest(integration_id="cp"), tenant_id="acme")
    assert (caught.value.http_status, caught.value.partner_code) == (401, "2001")


CODES: dict[int, type[PartnerError] | None] = {
    1000: None,
    1999: None,
    0: PartnerFault,
    999: PartnerFault,
    2000: PartnerRejected,
    2003: PartnerNotFound,
    2004: PartnerNotFound,
    2999: PartnerRejected,
    3001: PartnerFault,
    4000: PartnerFault,
    4001: PartnerNotFound,
    4003: PartnerUnavailable,
    -1000: PartnerFault,
}


@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_a_status_code_is_a_success_or_an_error(code: int, error: type[PartnerError] | None) -> None:
    assert isinstance(ocpi, Enveloped)
    reply = versions.VersionsResponse(status_code=code)
    if error is None:
        ocpi.check(reply)
        return
    with pytest.raises(error) as caught:
        ocpi.check(reply)
    assert (type(caught.value), caught.value.partner_code) == (error, str(code))


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"status_code": "x"}'])
def test_a_body_without_a_code_explains_nothing(body: bytes) -> None:
    assert ocpi.explain(400, body).code == ""
