"""What the registry takes from a contract, and what it refuses to start with."""

from dataclasses import replace
from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from google.protobuf.descriptor_pb2 import MethodOptions

from service.bridge.json_text import CodecError
from service.bridge.registry import ContractError, Parameter, Partner, Registry, at_path, contract_files
from service.bridge.transcode import reply_from_http
from tests.contracts import (
    ADDRESS,
    ALSO_NAMED,
    INTEGRATION_ID,
    ITEMS,
    MASK,
    REQUIRED,
    SECRET,
    SINK,
    contract,
    field,
    message,
)

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
        (options.Partner(name="c", strict_answers=True), Partner("c", True, "", "", strict_answers=True)),
    ):
        (operation,) = Registry.of([contract(REQUEST, REPLY, rpcs=[GET], partner=partner)]).operations.values()
        assert operation.partner == expected


@pytest.mark.parametrize("strict", [False, True])
def test_a_contract_may_take_answers_only_as_it_has_them(strict: bool) -> None:
    reply = message("Reply", field("count", "int32"))
    partner = options.Partner(name="a", strict_answers=strict)
    (operation,) = Registry.of([contract(REQUEST, reply, rpcs=[GET], partner=partner)]).operations.values()
    assert reply_from_http(operation, b'{"count": 7}').repairs == 0
    if strict:
        with pytest.raises(CodecError):
            reply_from_http(operation, b'{"count": "7"}')
    else:
        assert reply_from_http(operation, b'{"count": "7"}').repairs == 1


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
    ({"role": 0}, "names no role"),
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
    ([field("s", "enum:Shade")], "s: two values of its enum have one wire name"),
    ([field("n", "float")], "n: a float cannot hold the digits of a JSON number: make it a double"),
    ([field("m", "map:int32:string")], "m: a map's keys are strings"),
    ([field("n", "string", ITEMS)], "n: items are repeated messages"),
    ([field("n", "string", ITEMS, repeated=True)], "n: items are repeated messages"),
    ([field("n", "string", (options.needs, ["name"]))], "n: needs name, which it does not have"),
    (
        [field("pin", "string", SECRET)],
        "pin: is secret, and a recorded exchange cannot tell that by its wire name",
    ),
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


def test_a_package_says_whose_contract_it_is() -> None:
    assert faults(partner=None) == ["example: its files have no partner options"]


def test_one_file_of_a_package_speaks_for_all_and_two_agree() -> None:
    plain = contract(REQUEST, REPLY, rpcs=[GET], partner=None)
    for others, problem in ((["a"], ""), (["a", "a"], ""), (["a", "b"], "different")):
        files = [plain, *(contract(partner=options.Partner(name=name)) for name in others)]
        if problem:
            with pytest.raises(ContractError, match="its files have different partner options"):
                Registry.of(files)
        else:
            (operation,) = Registry.of(files).operations.values()
            assert operation.partner.name == "a"


LIST: dict[str, Any] = {
    "name": "List",
    "request": "Request",
    "response": "Page",
    "http": {"get": "/things"},
    "idempotency_level": MethodOptions.NO_SIDE_EFFECTS,
}
STREAM: dict[str, Any] = {
    "name": "Stream",
    "request": "Request",
    "response": "Page",
    "server_streaming": True,
    "pages_of": "List",
}
PAGE = message("Page", field("data", "Reply", ITEMS, repeated=True), field("links", "Links"))
LINKS = message("Links", field("next_page", "string", json_name="next"))


def test_an_rpc_may_stream_the_pages_of_another() -> None:
    registry = Registry.of([contract(REQUEST, REPLY, PAGE, LINKS, rpcs=[STREAM, LIST])])
    (pages,) = registry.pages.values()
    assert pages.name == "/example.Example/Stream"
    assert pages.page is registry.operations["/example.Example/List"]
    assert pages.next_link == ("links", "next_page")
    assert list(registry.operations) == ["/example.Example/List"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"pages_of": "Find"}, "Find is no rpc of its service that only reads, with GET"),
        ({"pages_of": "Get"}, "Get is no rpc of its service that only reads, with GET"),
        ({"response": "Reply"}, "its messages are not those of List"),
        ({"server_streaming": False}, "has pages_of, so it streams its answers and has no google.api.http"),
        ({"http": {"get": "/x"}}, "has pages_of, so it streams its answers and has no google.api.http"),
        ({"role": 0}, "names no role"),
    ],
)
def test_a_stream_of_pages_that_cannot_be_served_does_not_start(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError) as caught:
        Registry.of([contract(REQUEST, REPLY, PAGE, LINKS, rpcs=[GET, LIST, STREAM | change])])
    assert str(caught.value).splitlines() == [f"example.Example.Stream: {problem}"]


@pytest.mark.parametrize("next_link", ["links.after", "data", "links", "links.next.more"])
def test_the_next_page_is_found_in_the_answer(next_link: str) -> None:
    partner = options.Partner(name="example", next_link=next_link)
    with pytest.raises(ContractError) as caught:
        Registry.of([contract(REQUEST, REPLY, PAGE, LINKS, rpcs=[LIST, STREAM], partner=partner)])
    assert str(caught.value) == f"example.Example.Stream: Page has no string {next_link}"


MASKS = [
    [field("a", MASK), field("b", MASK)],
    [field("a", MASK, repeated=True)],
]


@pytest.mark.parametrize("fields", MASKS)
def test_a_request_has_one_mask(fields: Any) -> None:
    request = message("Request", ID, field("id", "string"), *fields)
    found = faults(request, rpc={"http": {"post": "/things/{id}", "body": "*"}})
    assert "example.Example.Get: a request has at most one google.protobuf.FieldMask, and a body for it" in found


def test_a_mask_below_the_request_has_no_form_on_the_wire() -> None:
    assert faults(message("Reply", field("mask", MASK))) == [
        "google.protobuf.FieldMask: has no form on a partner's wire"
    ]


WITHOUT = "an inlined oneof holds messages of ours, without a sink and other names"
INLINED = [
    ([field("a", "string", oneof="inlined")], f"Reply.inlined: {WITHOUT}"),
    ([field("a", "Sink", oneof="inlined")], f"Reply.inlined: {WITHOUT}"),
    ([field("a", "Spelt", oneof="inlined")], f"Reply.inlined: {WITHOUT}"),
    (
        [field("name", "string"), field("a", "Named", oneof="inlined")],
        "Reply.a: another field has the wire name name too",
    ),
]


@pytest.mark.parametrize(("fields", "problem"), INLINED)
def test_an_inlined_message_must_be_told_apart(fields: Any, problem: str) -> None:
    named = message("Named", field("name", "string"))
    sink = message("Sink", field("more", "google.protobuf.Struct", SINK))
    spelt = message("Spelt", field("name", "string", (ALSO_NAMED, ["label"])))
    assert faults(message("Reply", *fields), named, sink, spelt) == [f"example.{problem}"]


def test_another_name_is_nobody_elses() -> None:
    reply = message("Reply", field("name", "string"), field("label", "string", (ALSO_NAMED, ["name"])))
    assert faults(reply) == ["example.Reply.label: another field has the wire name name too"]


def test_an_operation_may_be_at_another_path() -> None:
    (operation,) = Registry.of([contract(REQUEST, REPLY, rpcs=[GET])]).operations.values()
    moved = at_path(operation, "/v1/{id}/thing")
    assert [getattr(part, "name", part) for part in moved.path] == ["v1", "id", "thing"]
    assert replace(moved, path=operation.path) == operation


OTHER_PATHS = """
    things/{id} /things /things/{id}/{id} /things/{integration_id} /{other}/{id} /../{id} /%2E%2e/{id} /./{id} //{id}
    /things/{id}?a=b /things/{id}#a /a\b/{id} /things/{id}/
"""


@pytest.mark.parametrize("template", OTHER_PATHS.split())
def test_a_path_with_other_variables_or_a_way_out_is_refused(template: str) -> None:
    (operation,) = Registry.of([contract(REQUEST, REPLY, rpcs=[GET])]).operations.values()
    with pytest.raises(ContractError):
        at_path(operation, template)


def test_a_contract_is_found_by_its_package() -> None:
    assert contract_files("evbridge.partner.chargeprice.v1") == (chargeprice.DESCRIPTOR,)


def test_all_faults_are_named_at_once_and_each_once() -> None:
    reply = message("Reply", field("n", "int32", REQUIRED, implicit=True), field("f", "float"))
    rpcs = [GET | {"name": "A"}, GET | {"name": "B", "http": {}}]
    with pytest.raises(ContractError) as caught:
        Registry.of([contract(REQUEST, reply, rpcs=rpcs, partner=None)])
    assert str(caught.value).splitlines() == [
        "example: its files have no partner options",
        "example.Reply.n: is an implicit scalar, so its zero would not travel: make it optional",
        "example.Reply.f: a float cannot hold the digits of a JSON number: make it a double",
        "example.Example.B: has no google.api.http",
    ]
