"""Any contract is a partner: what its HTTP rules say is stored, numbered, listed, changed and refused."""

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from evbridge.options.v1 import options_pb2 as options
from google.protobuf.json_format import MessageToDict, ParseDict

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.registry import Registry
from service.errors import (
    EvbridgeError,
    PartnerCredentialRefused,
    PartnerFault,
    PartnerNotFound,
    PartnerRejected,
)
from service.simulator import objects
from service.simulator.faults import Fault
from service.simulator.simulator import MAX_REQUESTS, Simulator
from tests.bridge.house import KEY, House
from tests.contracts import INTEGRATION_ID, ITEMS, contract, field, message

ID = field("integration_id", "string", INTEGRATION_ID)
THING = field("thing_id", "string")
SECRET = (options.secret, True)


def rpc(name: str, response: str, **http: str) -> dict[str, Any]:
    return {"name": name, "request": f"{name}Request", "response": response, "http": http}


REGISTRY = Registry.of(
    [
        contract(
            message("Thing", *(field(name, "string") for name in ("id", "name", "note")), field("size", "Size")),
            message("Size", field("width", "int32"), field("height", "int32")),
            message("Part", field("id", "string"), field("colour", "enum:Colour"), field("token", "string", SECRET)),
            message("Blinked", field("times", "int32"), field("last", "Size")),
            message("Things", field("things", "Thing", ITEMS, repeated=True)),
            message("CreateThingRequest", ID, field("thing", "Thing")),
            message("ListThingsRequest", ID),
            message("GetThingRequest", ID, THING),
            message("UpdateThingRequest", ID, THING, field("thing", "Thing"), field("m", "google.protobuf.FieldMask")),
            message("ReplaceThingRequest", ID, THING, field("thing", "Thing")),
            message("DeleteThingRequest", ID, THING),
            message("BlinkThingRequest", ID, THING, field("size", "Size")),
            message("CreatePartRequest", ID, THING, field("part", "Part")),
            message("GetPartRequest", ID, THING, field("part_id", "string")),
            message("PutLampRequest", ID, field("lamp_id", "string"), field("thing", "Thing")),
            message("SetClockRequest", ID, field("thing", "Thing")),
            message("GetClockRequest", ID),
            rpcs=[
                rpc("CreateThing", "Thing", post="/v1/things", body="thing"),
                rpc("ListThings", "Things", get="/v1/things"),
                rpc("GetThing", "Thing", get="/v1/things/{thing_id}"),
                rpc("UpdateThing", "Thing", patch="/v1/things/{thing_id}", body="thing"),
                rpc("ReplaceThing", "Thing", put="/v1/things/{thing_id}", body="thing"),
                rpc("DeleteThing", "google.protobuf.Empty", delete="/v1/things/{thing_id}"),
                rpc("BlinkThing", "Blinked", post="/v1/things/{thing_id}/blink", body="size"),
                rpc("CreatePart", "Part", post="/v1/things/{thing_id}/parts", body="part"),
                rpc("GetPart", "Part", get="/v1/things/{thing_id}/parts/{part_id}"),
                rpc("PutLamp", "Thing", put="/v1/lamps/{lamp_id}", body="thing"),
                rpc("SetClock", "Thing", put="/v1/clock", body="thing"),
                rpc("GetClock", "Thing", get="/v1/clock"),
            ],
            partner=options.Partner(name="example", credential_header={"name": "Authorization", "prefix": "Token "}),
        )
    ]
)


@pytest.fixture
async def example() -> AsyncIterator[Simulator]:
    made = Simulator(REGISTRY.operations.values(), api_key=KEY)
    await made.start()
    yield made
    await made.stop()


class Client:
    def __init__(self, house: House, egress: Egress) -> None:
        self.house = house
        self._channel = PartnerChannel(REGISTRY, house, house, egress, {})

    async def __call__(self, name: str, /, **members: Any) -> Any:
        """The answer as JSON with the field's own names, or the error."""
        operation = REGISTRY.operations[f"/example.Example/{name}"]
        request = ParseDict({"integration_id": "cp", **members}, operation.request_type())
        try:
            answer = await self._channel.call(operation, request, tenant_id="acme")
        except EvbridgeError as error:
            return error
        return MessageToDict(answer.message, preserving_proto_field_name=True)


@pytest.fixture
def call(example: Simulator, egress: Egress) -> Client:
    return Client(House(example.url, partner="example"), egress)


def plain_http(example: Simulator) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(example.url, headers={"Authorization": f"Token {KEY}"})


async def test_what_is_posted_to_a_collection_gets_an_id_and_can_be_read_and_listed(call: Client) -> None:
    assert await call("CreateThing", thing={"name": "a", "id": "mine"}) == {"id": "1", "name": "a"}
    assert await call("CreateThing", thing={"name": "b"}) == {"id": "2", "name": "b"}
    assert await call("GetThing", thing_id="2") == {"id": "2", "name": "b"}
    assert await call("ListThings") == {"things": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]}


async def test_a_patch_merges_and_null_clears(call: Client) -> None:
    await call("CreateThing", thing={"name": "a", "note": "n", "size": {"width": 1, "height": 2}})
    changed = await call("UpdateThing", thing_id="1", thing={"id": "9", "name": "b", "size": {"width": 3}}, m="note")
    assert changed == {"id": "1", "name": "b", "size": {"width": 3, "height": 2}}
    assert await call("GetThing", thing_id="1") == changed


async def test_a_put_replaces_all_but_the_id(call: Client) -> None:
    await call("CreateThing", thing={"name": "a", "note": "n"})
    assert await call("ReplaceThing", thing_id="1", thing={"name": "b"}) == {"id": "1", "name": "b"}
    assert await call("GetThing", thing_id="1") == {"id": "1", "name": "b"}


async def test_a_put_makes_what_no_post_can_make(call: Client) -> None:
    assert await call("PutLamp", lamp_id="a/b", thing={"name": "lamp"}) == {"id": "a/b", "name": "lamp"}
    assert isinstance(await call("GetClock"), PartnerNotFound)
    assert await call("SetClock", thing={"name": "clock"}) == {"name": "clock"}
    assert await call("GetClock") == {"name": "clock"}


async def test_what_a_path_goes_through_must_exist_and_takes_what_is_below_with_it(call: Client) -> None:
    assert isinstance(await call("CreatePart", thing_id="1", part={}), PartnerNotFound)
    await call("CreateThing", thing={})
    assert await call("CreatePart", thing_id="1", part={"colour": "GREEN"}) == {"id": "2", "colour": "GREEN"}
    assert await call("GetPart", thing_id="1", part_id="2") == {"id": "2", "colour": "GREEN"}
    assert await call("DeleteThing", thing_id="1") == {}
    for gone in (
        call("GetThing", thing_id="1"),
        call("DeleteThing", thing_id="1"),
        call("UpdateThing", thing_id="1", thing={}),
        call("ReplaceThing", thing_id="1", thing={}),
        call("GetPart", thing_id="1", part_id="2"),
        call("BlinkThing", thing_id="1", size={}),
    ):
        assert isinstance(await gone, PartnerNotFound)
    assert await call("ListThings") == {}


async def test_an_action_is_answered_with_the_least_the_contract_allows_and_holds_nothing(
    call: Client, example: Simulator
) -> None:
    await call("CreateThing", thing={})
    assert await call("BlinkThing", thing_id="1", size={"width": 1}) == {"last": {}}
    assert list(example.objects) == ["/v1/things/1"]


async def test_another_credential_is_refused(call: Client) -> None:
    call.house.key = "another"
    assert isinstance(await call("ListThings"), PartnerCredentialRefused)


async def test_a_secret_that_was_sent_is_in_no_answer(call: Client, example: Simulator) -> None:
    await call("CreateThing", thing={})
    part = {"token": "canary", "colour": "RED"}
    async with plain_http(example) as http, http.post("/v1/things/1/parts", json=part) as answer:
        assert answer.status == 201
        assert await answer.json() == {"id": "2", "colour": "RED"}
    assert KEY not in repr(example.requests)


async def test_it_holds_and_remembers_within_bounds(
    call: Client, example: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call("CreateThing", thing={"note": "x" * 1000})
    monkeypatch.setattr(objects, "MAX_BYTES", 3000)
    assert isinstance(await call("CreateThing", thing={"note": "x" * 2000}), PartnerFault)
    assert isinstance(await call("UpdateThing", thing_id="1", thing={"note": "x" * 3000}), PartnerFault)
    assert (await call("UpdateThing", thing_id="1", thing={"note": "short"}))["note"] == "short"
    monkeypatch.setattr(objects, "MAX_OBJECTS", 1)
    assert isinstance(await call("CreateThing", thing={}), PartnerFault)
    assert (await call("UpdateThing", thing_id="1", thing={"note": "again"}))["note"] == "again"
    async with plain_http(example) as http, http.post("/v1/things", data=BytesIO(bytes(2_000_000))) as answer:
        assert answer.status == 413
    await call("UpdateThing", thing_id="1", thing={"note": "x" * 100_000})
    assert max(len(request.body) for request in example.requests) == 64 * 1024
    example.requests *= MAX_REQUESTS
    await call("ListThings")
    assert len(example.requests) == MAX_REQUESTS
    assert example.requests[-1].path == "/v1/things"


async def test_a_fault_waits_for_its_rpc_and_happens_as_often_as_it_says(call: Client, example: Simulator) -> None:
    example.inject("2*CreateThing=status:500")
    example.inject("GET=status:422")
    assert isinstance(await call("CreateThing", thing={}), PartnerFault)
    assert isinstance(await call("ListThings"), PartnerRejected)
    assert await call("ListThings") == {}
    assert isinstance(await call("CreateThing", thing={}), PartnerFault)
    assert await call("CreateThing", thing={}) == {"id": "1"}
    assert not example.faults


def test_a_fault_of_an_rpc_that_does_not_exist_is_refused() -> None:
    simulator = Simulator(REGISTRY.operations.values(), api_key=KEY)
    simulator.inject("3*GetThing=delay:0.5")
    assert list(simulator.faults) == [Fault("delay", operation="GetThing", seconds=0.5, times=3)]
    with pytest.raises(ValueError, match="example has no rpc GetThings"):
        simulator.inject("GetThings=cut")
