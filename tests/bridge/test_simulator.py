"""Any contract is a partner: what its HTTP rules say is stored, numbered, listed, changed and refused."""

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from evbridge.options.v1 import options_pb2 as options
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.registry import Operation, Registry
from service.domain.partner_error import PartnerCredentialRefused, PartnerFault, PartnerNotFound, PartnerRejected
from service.errors import EvbridgeError
from service.simulator import objects
from service.simulator.faults import Fault
from service.simulator.front import MAX_REQUESTS
from service.simulator.simulator import Simulator
from tests.bridge.fake_ports import KEY, FakePorts
from tests.contracts import INTEGRATION_ID, ITEMS, contract, field, message

ID = field("integration_id", "string", INTEGRATION_ID)
GADGET = field("gadget_id", "string")
SECRET = (options.secret, True)


def rpc(name: str, response: str, **http: str) -> dict[str, Any]:
    return {"name": name, "request": f"{name}Request", "response": response, "http": http}


REGISTRY = Registry.of(
    [
        contract(
            message("Gadget", *(field(name, "string") for name in ("id", "name", "note")), field("size", "Size")),
            message("Size", field("width", "int32"), field("height", "int32")),
            message("Part", field("id", "string"), field("colour", "enum:Colour"), field("token", "string", SECRET)),
            message("Blinked", field("times", "int32"), field("last", "Size")),
            message("Gadgets", field("gadgets", "Gadget", ITEMS, repeated=True)),
            message("CreateGadgetRequest", ID, field("gadget", "Gadget")),
            message("ListGadgetsRequest", ID),
            message("GetGadgetRequest", ID, GADGET),
            message(
                "UpdateGadgetRequest", ID, GADGET, field("gadget", "Gadget"), field("m", "google.protobuf.FieldMask")
            ),
            message("ReplaceGadgetRequest", ID, GADGET, field("gadget", "Gadget")),
            message("DeleteGadgetRequest", ID, GADGET),
            message("BlinkGadgetRequest", ID, GADGET, field("size", "Size")),
            message("CreatePartRequest", ID, GADGET, field("part", "Part")),
            message("GetPartRequest", ID, GADGET, field("part_id", "string")),
            message("PutLampRequest", ID, field("lamp_id", "string"), field("gadget", "Gadget")),
            message("SetClockRequest", ID, field("gadget", "Gadget")),
            message("GetClockRequest", ID),
            rpcs=[
                rpc("CreateGadget", "Gadget", post="/v1/gadgets", body="gadget"),
                rpc("ListGadgets", "Gadgets", get="/v1/gadgets"),
                rpc("GetGadget", "Gadget", get="/v1/gadgets/{gadget_id}"),
                rpc("UpdateGadget", "Gadget", patch="/v1/gadgets/{gadget_id}", body="gadget"),
                rpc("ReplaceGadget", "Gadget", put="/v1/gadgets/{gadget_id}", body="gadget"),
                rpc("DeleteGadget", "google.protobuf.Empty", delete="/v1/gadgets/{gadget_id}"),
                rpc("BlinkGadget", "Blinked", post="/v1/gadgets/{gadget_id}/blink", body="size"),
                rpc("CreatePart", "Part", post="/v1/gadgets/{gadget_id}/parts", body="part"),
                rpc("GetPart", "Part", get="/v1/gadgets/{gadget_id}/parts/{part_id}"),
                rpc("PutLamp", "Gadget", put="/v1/lamps/{lamp_id}", body="gadget"),
                rpc("SetClock", "Gadget", put="/v1/clock", body="gadget"),
                rpc("GetClock", "Gadget", get="/v1/clock"),
            ],
            partner=options.Partner(name="example", credential_header={"name": "Authorization", "prefix": "Token "}),
        )
    ]
)


class Example(Simulator):
    """It has no rules to check, and the validator takes one example.proto per process, which another test brings."""

    def check(self, operation: Operation, request: Message) -> None:
        return


@pytest.fixture
async def example() -> AsyncIterator[Simulator]:
    made = Example(REGISTRY.operations.values(), api_key=KEY)
    await made.start()
    yield made
    await made.stop()


class Client:
    def __init__(self, ports: FakePorts, egress: Egress) -> None:
        self.ports = ports
        self._channel = PartnerChannel(REGISTRY, ports, ports, egress, {})

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
    return Client(FakePorts(example.url, partner="example"), egress)


def plain_http(example: Simulator) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(example.url, headers={"Authorization": f"Token {KEY}"})


async def test_what_is_posted_to_a_collection_gets_an_id_and_can_be_read_and_listed(call: Client) -> None:
    assert await call("CreateGadget", gadget={"name": "a", "id": "mine"}) == {"id": "1", "name": "a"}
    assert await call("CreateGadget", gadget={"name": "b"}) == {"id": "2", "name": "b"}
    assert await call("GetGadget", gadget_id="2") == {"id": "2", "name": "b"}
    assert await call("ListGadgets") == {"gadgets": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]}


async def test_a_patch_merges_and_null_clears(call: Client) -> None:
    await call("CreateGadget", gadget={"name": "a", "note": "n", "size": {"width": 1, "height": 2}})
    changed = await call("UpdateGadget", gadget_id="1", gadget={"id": "9", "name": "b", "size": {"width": 3}}, m="note")
    assert changed == {"id": "1", "name": "b", "size": {"width": 3, "height": 2}}
    assert await call("GetGadget", gadget_id="1") == changed


async def test_a_put_replaces_all_but_the_id(call: Client) -> None:
    await call("CreateGadget", gadget={"name": "a", "note": "n"})
    assert await call("ReplaceGadget", gadget_id="1", gadget={"name": "b"}) == {"id": "1", "name": "b"}
    assert await call("GetGadget", gadget_id="1") == {"id": "1", "name": "b"}


async def test_a_put_makes_what_no_post_can_make(call: Client) -> None:
    assert await call("PutLamp", lamp_id="a/b", gadget={"name": "lamp"}) == {"id": "a/b", "name": "lamp"}
    assert isinstance(await call("GetClock"), PartnerNotFound)
    assert await call("SetClock", gadget={"name": "clock"}) == {"name": "clock"}
    assert await call("GetClock") == {"name": "clock"}


async def test_what_a_path_goes_through_must_exist_and_takes_what_is_below_with_it(call: Client) -> None:
    assert isinstance(await call("CreatePart", gadget_id="1", part={}), PartnerNotFound)
    await call("CreateGadget", gadget={})
    assert await call("CreatePart", gadget_id="1", part={"colour": "GREEN"}) == {"id": "2", "colour": "GREEN"}
    assert await call("GetPart", gadget_id="1", part_id="2") == {"id": "2", "colour": "GREEN"}
    assert await call("DeleteGadget", gadget_id="1") == {}
    for gone in (
        call("GetGadget", gadget_id="1"),
        call("DeleteGadget", gadget_id="1"),
        call("UpdateGadget", gadget_id="1", gadget={}),
        call("ReplaceGadget", gadget_id="1", gadget={}),
        call("GetPart", gadget_id="1", part_id="2"),
        call("BlinkGadget", gadget_id="1", size={}),
    ):
        assert isinstance(await gone, PartnerNotFound)
    assert await call("ListGadgets") == {}


async def test_an_action_is_answered_with_the_least_the_contract_allows_and_holds_nothing(
    call: Client, example: Simulator
) -> None:
    await call("CreateGadget", gadget={})
    assert await call("BlinkGadget", gadget_id="1", size={"width": 1}) == {"last": {}}
    assert list(example.objects) == ["/v1/gadgets/1"]


async def test_another_credential_is_refused(call: Client) -> None:
    call.ports.key = "another"
    assert isinstance(await call("ListGadgets"), PartnerCredentialRefused)


async def test_a_secret_that_was_sent_is_in_no_answer(call: Client, example: Simulator) -> None:
    await call("CreateGadget", gadget={})
    part = {"token": "canary", "colour": "RED"}
    async with plain_http(example) as http, http.post("/v1/gadgets/1/parts", json=part) as answer:
        assert answer.status == 201
        assert await answer.json() == {"id": "2", "colour": "RED"}
    assert KEY not in repr(example.requests)


async def test_it_holds_and_remembers_within_bounds(
    call: Client, example: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call("CreateGadget", gadget={"note": "x" * 1000})
    monkeypatch.setattr(objects, "MAX_BYTES", 3000)
    assert isinstance(await call("CreateGadget", gadget={"note": "x" * 2000}), PartnerFault)
    assert isinstance(await call("UpdateGadget", gadget_id="1", gadget={"note": "x" * 3000}), PartnerFault)
    assert (await call("UpdateGadget", gadget_id="1", gadget={"note": "short"}))["note"] == "short"
    monkeypatch.setattr(objects, "MAX_OBJECTS", 1)
    assert isinstance(await call("CreateGadget", gadget={}), PartnerFault)
    assert (await call("UpdateGadget", gadget_id="1", gadget={"note": "again"}))["note"] == "again"
    async with plain_http(example) as http, http.post("/v1/gadgets", data=BytesIO(bytes(2_000_000))) as answer:
        assert answer.status == 413
    await call("UpdateGadget", gadget_id="1", gadget={"note": "x" * 100_000})
    assert max(len(request.body) for request in example.requests) == 64 * 1024
    example.requests *= MAX_REQUESTS
    await call("ListGadgets")
    assert len(example.requests) == MAX_REQUESTS
    assert example.requests[-1].path == "/v1/gadgets"


async def test_a_fault_waits_for_its_rpc_and_happens_as_often_as_it_says(call: Client, example: Simulator) -> None:
    example.inject("2*CreateGadget=status:500")
    example.inject("GET=status:422")
    assert isinstance(await call("CreateGadget", gadget={}), PartnerFault)
    assert isinstance(await call("ListGadgets"), PartnerRejected)
    assert await call("ListGadgets") == {}
    assert isinstance(await call("CreateGadget", gadget={}), PartnerFault)
    assert await call("CreateGadget", gadget={}) == {"id": "1"}
    assert not example.faults


def test_a_fault_of_an_rpc_that_does_not_exist_is_refused() -> None:
    simulator = Simulator(REGISTRY.operations.values(), api_key=KEY)
    simulator.inject("3*GetGadget=delay:0.5")
    assert list(simulator.faults) == [Fault("delay", operation="GetGadget", seconds=0.5, times=3)]
    with pytest.raises(ValueError, match="example has no rpc GetGadgets"):
        simulator.inject("GetGadgets=cut")
