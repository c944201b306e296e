"""What the registry takes from a contract, and what it refuses to start with."""

from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from google.protobuf.descriptor_pb2 import MethodOptions

from service.bridge.registry import ContractError, Parameter, Partner, Registry
from tests.contracts import ADDRESS, INTEGRATION_ID, ITEMS, REQUIRED, SINK, contract, field, message

ID = field("integration_id", "string", INTEGRATION_ID)
GET: dict[str, Any] = {"name": "Get", "request": "Request", "response": "Reply", "http": {"get": "/things/{id}"}}
REQUEST = message("Request", ID, field("id", "string"))
REPLY = message("Reply", field("name", "string"))


def faults(*messages: Any, rpc: dict[str, Any] | None = None, **how: Any) -> list[str]:
    """The faults of a contract that is sound but for what the arguments change."""
    given = {each.name: each for each in (REQUEST, REPLY, *messages)}
    with pytest.raises(ContractError) as caught:
        Registry.of([contract(*given.values(), rpcs=[GET | (rpc or {})], **how)])
    return str(caught.value).splitlines()


def test_the_contract_of_chargeprice_becomes_operations() -> None:
    registry = Registry.of([chargeprice.DESCRIPTOR])
    service = "/evbridge.partner.chargeprice.v1.CompanyService"
    assert list(registry.operations) == [
        f"{service}/{rpc}" for rpc in ("UpsertCompany", "ListCompanies", "DeleteCompany")
    ]
    upsert, search, delete = registry.operations.values()
    assert upsert.partner == Partner("chargeprice", True, "API-Key", "")
    assert [(each.http_method, each.safe) for each in (upsert, search, delete)] == [
        ("PUT", False),
        ("GET", True),
        ("DELETE", False),
    ]
    assert [part.name if isinstance(part, Parameter) else part for part in upsert.path] == [
        "v1",
        "companies",
        "company_id",
    ]
    assert [each.name for each in search.query][:2] == ["filter[id]", "filter[is_emp]"]
    assert upsert.request_type is chargeprice.UpsertCompanyRequest
    assert (upsert.integration_field, upsert.query, search.body) == ("integration_id", (), None)


def test_a_partner_has_defaults() -> None:
    credential = options.CredentialHeader(name="Authorization", prefix="Bearer ")
    for partner, expected in (
        (options.Partner(name="a"), Partner("a", True, "", "")),
        (
            options.Partner(name="b", wire_names=options.WIRE_NAMES_JSON, credential_header=credential),
            Partner("b", False, "Authorization", "Bearer "),
        ),
    ):
        (operation,) = Registry.of([contract(REQUEST, REPLY, rpcs=[GET], partner=partner)]).operations.values()
        assert operation.partner == expected


@pytest.mark.parametrize("path", ["/things/{id=*}", "/v2.0/a:b/{id}", "/a/b/{owner.id}"])
def test_a_path_is_made_of_literals_and_variables(path: str) -> None:
    request = message("Request", ID, field("id", "string"), field("owner", "Owner"))
    owner = message("Owner", field("id", "string"))
    rpc = GET | {"http": {"post": path, "body": "*"}, "idempotency_level": MethodOptions.IDEMPOTENT}
    (operation,) = Registry.of([contract(request, owner, REPLY, rpcs=[rpc])]).operations.values()
    assert (operation.http_method, operation.safe) == ("POST", False)


def test_contracts_of_several_files_stand_side_by_side() -> None:
    registry = Registry.of([chargeprice.DESCRIPTOR, contract(REQUEST, REPLY, rpcs=[GET])])
    assert len(registry.operations) == 4


RULES = [
    ({"http": {}}, "has no google.api.http"),
    ({"http": {"get": "/things", "additional_bindings": [{"get": "/others"}]}}, "has additional_bindings"),
    ({"http": {"custom": {"kind": "LOCK", "path": "/things"}}}, "has a custom verb"),
    ({"server_streaming": True}, "streams"),
    ({"http": {"get": "/things/{name}"}}, "the path variable name is not a singular scalar of Request that travels"),
    ({"http": {"get": "/things/{owner}"}}, "the path variable owner is not a singular scalar of Request that travels"),
    (
        {"http": {"get": "/things/{owner.name}"}},
        "the path variable owner.name is not a singular scalar of Request that travels",
    ),
    ({"http": {"get": "/things/{ids}"}}, "the path variable ids is not a singular scalar of Request that travels"),
    (
        {"http": {"get": "/things/{integration_id}"}},
        "the path variable integration_id is not a singular scalar of Request that travels",
    ),
    (
        {"http": {"post": "/things/{name}", "body": "*"}},
        "the path variable name is not a singular scalar of Request that travels",
    ),
    ({"http": {"get": "things"}}, "the path things is not made of literals and single-segment variables"),
    ({"http": {"get": "/a//b"}}, "the path /a//b is not made of literals and single-segment variables"),
    ({"http": {"get": "/{id=**}"}}, "the path /{id=**} is not made of literals and single-segment variables"),
    ({"http": {"get": "/a-{id}"}}, "the path /a-{id} is not made of literals and single-segment variables"),
    ({"http": {"get": "/a?b=c"}}, "the path /a?b=c is not made of literals and single-segment variables"),
    ({"http": {"put": "/things", "body": "thing"}}, "the body thing is not a field of Request"),
    ({"http": {"get": "/things", "response_body": "data"}}, "the response_body data is not a field of Reply"),
    ({"http": {"get": "/things"}}, "owner is a message and would have to travel in the query"),
    ({"http": {"get": "/things/{owner.id}"}}, "owner is a message and would have to travel in the query"),
    (
        {"response": "google.protobuf.Struct"},
        "Struct cannot be a response itself: make it a field, named by response_body",
    ),
]


@pytest.mark.parametrize(("rpc", "problem"), RULES, ids=[str(rpc) for rpc, _ in RULES])
def test_a_rule_that_would_lose_something_does_not_start(rpc: dict[str, Any], problem: str) -> None:
    request = message(
        "Request", ID, field("id", "string"), field("ids", "string", repeated=True), field("owner", "Owner")
    )
    owner = message("Owner", field("id", "string"))
    assert f"example.Example.Get: {problem}" in faults(request, owner, rpc=rpc)


@pytest.mark.parametrize("address", [field("url", "string", ADDRESS, repeated=True), field("url", "int32", ADDRESS)])
def test_an_address_is_one_string(address: dict[str, Any]) -> None:
    problem = "example.Example.Get: Request has at most one address, a string"
    assert problem in faults(message("Request", ID, field("id", "string"), address))
    two = (field(name, "string", ADDRESS) for name in ("url", "other_url"))
    assert problem in faults(message("Request", ID, field("id", "string"), *two))


@pytest.mark.parametrize(
    "owner",
    [field("owner", "Owner", repeated=True), field("owner", "map:string:string"), field("owner", "Owner", SINK)],
)
def test_messages_do_not_travel_in_the_query(owner: dict[str, Any]) -> None:
    request = message("Request", ID, field("id", "string"), owner)
    problem = "example.Example.Get: owner is a message and would have to travel in the query"
    assert problem in faults(request, message("Owner", field("id", "string")))


MESSAGES = [
    ([field("n", "int32", implicit=True)], "n: is an implicit scalar, so its zero would not travel: make it optional"),
    (
        [field("c", "enum:Colour", implicit=True)],
        "c: is an implicit scalar, so its zero would not travel: make it optional",
    ),
    ([field("n", "float")], "n: a float cannot hold the digits of a JSON number: make it a double"),
    ([field("m", "map:int32:string")], "m: a map's keys are strings"),
    ([field("n", "string", ITEMS)], "n: items are repeated messages"),
    ([field("n", "string", ITEMS, repeated=True)], "n: items are repeated messages"),
    ([field("c", "string", json_name="a_b"), field("a_b", "string")], "a_b: another field has the wire name a_b too"),
]


@pytest.mark.parametrize(("fields", "problem"), MESSAGES, ids=[problem for _, problem in MESSAGES])
@pytest.mark.parametrize("where", ["reply", "request", "below", "map"])
def test_a_message_that_would_lose_something_does_not_start(fields: Any, problem: str, where: str) -> None:
    if where == "reply":
        assert faults(message("Reply", *fields)) == [f"example.Reply.{problem}"]
        return
    bad = message("Bad", *fields)
    holder = field("holder", "map:string:Bad" if where == "map" else "Bad")
    if where == "request":
        request = message("Request", ID, field("id", "string"), holder)
        found = faults(request, bad, rpc={"http": {"post": "/things/{id}", "body": "holder"}})
    else:
        found = faults(message("Reply", field("again", "Reply"), holder), bad)
    assert found == [f"example.Bad.{problem}"]


SINKS = [
    [field("a", "google.protobuf.Struct", SINK), field("b", "google.protobuf.Struct", SINK)],
    [field("a", "google.protobuf.Value", SINK)],
    [field("a", "google.protobuf.Struct", SINK, repeated=True)],
    [field("a", "string", SINK)],
]


@pytest.mark.parametrize("fields", SINKS)
def test_a_message_has_one_sink_which_is_a_struct(fields: Any) -> None:
    problem = "example.Reply: a message has at most one sink, a google.protobuf.Struct"
    assert faults(message("Reply", *fields)) == [problem]


def test_types_without_a_form_on_the_wire_do_not_start() -> None:
    reply = message("Reply", field("name", "google.protobuf.StringValue"))
    assert faults(reply) == ["google.protobuf.StringValue: has no form on a partner's wire"]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [field("integration_id", "string")],
        [field("integration_id", "int64", INTEGRATION_ID)],
        [field("integration_id", "string", INTEGRATION_ID, repeated=True)],
        [field("a", "string", INTEGRATION_ID), field("b", "string", INTEGRATION_ID)],
    ],
)
def test_every_request_names_its_integration(fields: Any) -> None:
    request = message("Request", field("id", "string"), *fields)
    problem = "example.Example.Get: Request needs one string field marked integration_id"
    assert faults(request) == [problem]


def test_a_file_says_whose_contract_it_is() -> None:
    assert faults(partner=None) == ["example.proto: has no partner option"]


def test_all_faults_are_named_at_once_and_each_once() -> None:
    reply = message("Reply", field("n", "int32", REQUIRED, implicit=True), field("f", "float"))
    rpcs = [GET | {"name": "A"}, GET | {"name": "B", "http": {}}]
    with pytest.raises(ContractError) as caught:
        Registry.of([contract(REQUEST, reply, rpcs=rpcs, partner=None)])
    assert str(caught.value).splitlines() == [
        "example.proto: has no partner option",
        "example.Reply.n: is an implicit scalar, so its zero would not travel: make it optional",
        "example.Reply.f: a float cannot hold the digits of a JSON number: make it a double",
        "example.Example.B: has no google.api.http",
    ]
