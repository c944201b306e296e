"""The simulated AMPECO answers as its public API does, for every operation of the contract."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from evbridge.partner.ampeco.v3 import location_pb2 as location
from evbridge.partner.ampeco.v3.evse_pb2 import ListEvsesRequest
from evbridge.partner.ampeco.v3.evse_pb2_grpc import EvseServiceStub
from evbridge.partner.ampeco.v3.location_pb2_grpc import LocationServiceStub
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.registry import Registry, contract_files
from service.bridge.transcode import to_http
from service.bridge.wire import inlined
from service.domain.partner_error import PartnerCredentialRefused, PartnerNotFound, PartnerRejected
from service.errors import EvbridgeError
from service.partners.ampeco import mapping as ampeco_errors
from service.partners.ampeco.simulator import Simulator
from tests.bridge.fake_ports import KEY, FakePorts
from tests.bridge.test_ampeco_contract import OPERATIONS, body_of, called, request_with, rpc_of

LOCATIONS = "/public-api/resources/locations/v2.0"
REGISTRY = Registry.of(contract_files("evbridge.partner.ampeco.v3"))


@pytest.fixture
async def simulated() -> AsyncIterator[Simulator]:
    made = Simulator(api_key=KEY)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def reach(simulated: Simulator, egress: Egress) -> Callable[..., PartnerChannel]:
    def make(key: str = KEY) -> PartnerChannel:
        ports = FakePorts(simulated.url, partner="ampeco", key=key)
        return PartnerChannel(REGISTRY, ports, ports, egress, {"ampeco": ampeco_errors})

    return make


@pytest.fixture
def channel(reach: Callable[..., PartnerChannel]) -> PartnerChannel:
    return reach()


def called_on(channel: PartnerChannel, name: str, **members: Any) -> Any:
    stub: Any = channel.stub(LocationServiceStub, "acme")
    request = getattr(location, f"{name.replace('Stream', 'List')}Request")(integration_id="cp", **members)
    return getattr(stub, name)(request)


async def refusal(awaitable: Any) -> EvbridgeError:
    with pytest.raises(EvbridgeError) as raised:
        await awaitable
    return raised.value


async def test_a_location_is_made_changed_cleared_and_read(channel: PartnerChannel) -> None:
    made = await called_on(channel, "CreateLocation", location={"city": "Espoo", "country": "FI", "tags": ["a"]})
    assert (made.data.id, made.data.city, list(made.data.tags)) == (1, "Espoo", ["a"])
    assert made.data.last_updated_at.endswith("Z")
    change = {"location": {"country": "SE"}, "update_mask": {"paths": ["city", "tags"]}}
    await called_on(channel, "UpdateLocation", location_id=1, **change)
    held = (await called_on(channel, "GetLocation", location_id=1)).data
    assert (held.id, held.HasField("city"), list(held.tags), held.country) == (1, False, [], "SE")


async def test_a_list_is_filtered_and_streamed_by_cursor_and_by_number(channel: PartnerChannel) -> None:
    for number in range(7):
        await called_on(channel, "CreateLocation", location={"country": "SE" if number == 3 else "FI"})
    for paging in ({"cursor": ""}, {}):
        pages = [
            [each.id for each in page.data]
            async for page in called_on(channel, "StreamLocations", per_page=2, filter_country="FI", **paging)
        ]
        assert pages == [[1, 2], [3, 5], [6, 7]]
    whole = await called_on(channel, "ListLocations")
    assert (whole.meta.total, whole.meta.per_page, len(whole.data)) == (7, 100, 7)
    page = await called_on(channel, "ListLocations", cursor="2", per_page=2)
    assert ([each.id for each in page.data], page.meta.next_cursor, page.meta.HasField("total")) == ([3, 4], "4", False)


async def test_evses_are_listed_wherever_they_were_made_and_with_connectors_when_asked(
    channel: PartnerChannel, simulated: Simulator
) -> None:
    api = "/public-api/resources"
    held = {
        f"{api}/charge-points/v2.0/1": {"id": 1},
        f"{api}/evses/v2.1/2": {"id": 2, "chargePointId": 1},
        f"{api}/charge-points/v2.0/1/evses/2/connectors/3": {"id": 3, "type": "type2"},
        f"{api}/charge-points/v2.0/1/evses/4": {"id": 4},
    }
    simulated.objects.update(held)
    stub: Any = channel.stub(EvseServiceStub, "acme")
    for include, shown in ((["connectors"], {2: [3], 4: []}), ([], {2: [], 4: []})):
        listed = await stub.ListEvses(ListEvsesRequest(integration_id="cp", include=include))
        assert {each.id: [connector.id for connector in each.connectors] for each in listed.data} == shown


async def test_lists_know_what_changed_since(channel: PartnerChannel, simulated: Simulator) -> None:
    for number, time in enumerate(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"), 1):
        simulated.objects[f"{LOCATIONS}/{number}"] = {"id": number, "lastUpdatedAt": time}
    for filters, ids in (
        ({"filter_last_updated_after": "2026-01-02T00:00:00Z"}, [2, 3]),
        ({"filter_last_updated_before": "2026-01-02T00:00:00Z"}, [1, 2]),
    ):
        assert [each.id for each in (await called_on(channel, "ListLocations", **filters)).data] == ids


async def test_what_breaks_the_contracts_rules_is_refused_field_by_field(channel: PartnerChannel) -> None:
    bad = {"country": "Finland", "parking_type": "NOWHERE", "access_methods": ["OPEN", "DOOR"]}
    error = await refusal(called_on(channel, "CreateLocation", location=bad))
    assert type(error) is PartnerRejected
    assert error.http_status == 422
    assert {violation.path for violation in error.violations} == {
        "location.country",
        "location.parking_type",
        "location.access_methods[1]",
    }
    error = await refusal(called_on(channel, "CreateLocationV1", location={"city": "Berlin", "country": "DE"}))
    assert [(each.path, each.description) for each in error.violations] == [
        (f"location.{name}", "is required") for name in ("geoposition", "name", "post_code", "region")
    ]


async def test_errors_have_the_words_of_the_api(
    reach: Callable[..., PartnerChannel], channel: PartnerChannel, simulated: Simulator
) -> None:
    assert type(await refusal(called_on(reach("another"), "GetLocation", location_id=1))) is PartnerCredentialRefused
    assert type(await refusal(called_on(channel, "GetLocation", location_id=1))) is PartnerNotFound
    zone = {"name": "P1", "status": "enabled"}
    assert type(await refusal(called_on(channel, "CreateChargingZone", location_id=1, zone=zone))) is PartnerNotFound

    async def said(path: str, **arguments: Any) -> tuple[int, Any]:
        async with http.request(arguments.pop("method", "GET"), path, **arguments) as answer:
            limit = answer.headers.get("X-RateLimit-Limit"), answer.headers.get("X-RateLimit-Remaining")
            assert limit == (("1000", "0") if answer.status == 429 else (None, None))
            return answer.status, await answer.json()

    async with aiohttp.ClientSession(simulated.url, headers={"Authorization": f"Bearer {KEY}"}) as http:
        assert await said(LOCATIONS, headers={"Authorization": KEY}) == (401, {"message": "Unauthenticated."})
        assert await said(f"{LOCATIONS}/9") == (404, {"message": "Not Found"})
        simulated.inject("status:429:30")
        assert await said(LOCATIONS) == (429, {"message": "Too Many Attempts."})
        assert await said(LOCATIONS, method="POST", json={"geoposition": {"latitude": "north"}, "tags": 1}) == (
            422,
            {"message": "The given data was invalid.", "errors": {"geoposition.latitude": ["must be a number"]}},
        )
        assert (await said(f"{LOCATIONS}?cursor=next"))[1]["errors"] == {"cursor": ["must be a number"]}


def examples(message: Message) -> Message:
    """The message with a number in every decimal, which is none when it is empty."""
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                examples(each)
    if message.DESCRIPTOR.full_name == "google.type.Decimal":
        message.value = "1.5"  # type: ignore[attr-defined]
    return message


NEED_MORE = {
    # Rpcs whose body needs more than the members that AMPECO lists as required.
    "CreateBookingRequest",
    "CreateElectricityRateV1",
    "CreatePaymentTerminal",
    "CreateRoamingProvider",
    "CreateVariable",
    "InsertVariables",
    "ReplaceElectricityRateV1",
    "SetInvoiceDetails",
    "SetPersonalSmartChargingPreferences",
    "SetSmartCharging",
    "UpdateFirmware",
    "UpdateVariable",
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: called(each["method"], each["path"]))
async def test_every_operation_is_answered_in_the_form_of_its_contract(
    operation: dict[str, Any], channel: PartnerChannel, simulated: Simulator
) -> None:
    rpc = rpc_of(operation)
    known = REGISTRY.operations[f"/{rpc.containing_service.full_name}/{rpc.name}"]
    names = [name for name in operation["required"] if not operation["fields"][name].endswith("!")]
    choices = [each for oneof in body_of(rpc).message_type.oneofs if inlined(oneof) for each in oneof.fields]
    request = examples(request_with(rpc, names, choices[0] if choices else None))
    request.integration_id = "cp"  # type: ignore[attr-defined]
    segments = to_http(known, request).path.split("/")
    for length in range(2, len(segments) + 1):
        simulated.objects["/".join(segments[:length])] = {}
    try:
        answer = await channel.call(known, request, tenant_id="acme")
    except PartnerRejected as error:
        assert rpc.name in NEED_MORE
        assert error.http_status == 422
        assert error.violations
    else:
        assert rpc.name not in NEED_MORE
        assert type(answer.message) is GetMessageClass(rpc.output_type)
        if "id" in getattr(getattr(answer.message, "data", None), "DESCRIPTOR", rpc.input_type).fields_by_name:
            assert answer.message.data.id
