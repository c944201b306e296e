"""What a call of a partner's contract sends and is answered, against files written by hand: `<partner>/<case>.json`.

`call` is made as a stub makes it; `exchanges` are all that the partner sees, with the answers it gives; `reply` or
`error` is what the caller gets. `integration` holds where the integration departs from its partner's contract.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.error_reason_pb2 import ErrorReason
from google.protobuf.json_format import MessageToDict, ParseDict

from service.app import PARTNERS
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress, EgressPolicy
from service.bridge.registry import Registry, contract_files
from service.domain.partner_error import PartnerError
from service.domain.validation import validate
from tests.bridge.fake_ports import FakePorts
from tests.golden.recorder import Recorder, cases

ROOMS = {partner.name: partner for partner in PARTNERS if partner.contract}
KEY = "golden-key"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.of(file for room in ROOMS.values() for file in contract_files(room.contract))


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    opened = Egress(EgressPolicy(allow_loopback=True, allow_plain_http=True))
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("path", cases("call"), ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_the_partner_sees_exactly_this_and_so_does_the_caller(
    path: Path, registry: Registry, egress: Egress
) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    partner = path.parent.name
    departures = case.get("integration", {})
    base_path = departures.pop("base_path", "")
    ((name, content),) = case["call"].items()
    operation = registry.operations[f"/{ROOMS[partner].contract}.{name}"]
    request = ParseDict({"integration_id": "cp", **content}, operation.request_type())
    validate(request)
    async with Recorder(case["exchanges"]) as recorder:
        ports = FakePorts(recorder.url + base_path, key=KEY, partner=partner, departures=departures)
        channel = PartnerChannel(registry, ports, ports, egress, {partner: ROOMS[partner].behaviour})
        call = channel.call(operation, request, tenant_id="acme")
        if "reply" in case:
            assert MessageToDict((await call).message, preserving_proto_field_name=True) == case["reply"]
        else:
            with pytest.raises(PartnerError) as raised:
                await call
            assert {
                "reason": ErrorReason.Name(raised.value.reason),
                "metadata": raised.value.metadata,
                "violations": [[each.path, each.description] for each in raised.value.violations],
            } == {"violations": [], **case["error"]}
        assert recorder.received == [exchange["request"] for exchange in case["exchanges"]]
