"""Operation + message <-> the parts of an HTTP request."""

from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.codec import CodecError, Decoded
from service.bridge.registry import Operation, Registry
from service.bridge.transcode import HttpRequest, from_http, match, reply_from_http, reply_to_http, to_http
from service.errors import InvalidArgument
from tests.contracts import ADDRESS, INTEGRATION_ID, ITEMS, MASK, PERSONAL, contract, field, message

ID = field("integration_id", "string", INTEGRATION_ID)
FILE = contract(
    message(
        "Search",
        ID,
        field("site_id", "string"),
        field("number", "int32"),
        field("text", "string"),
        field("location_id", "string", json_name="filter[locationId]"),
        field("include", "string", repeated=True, json_name="include[]"),
        field("flag", "bool"),
        field("limit", "int64"),
        field("ratio", "double"),
        field("colour", "enum:Colour"),
        field("colours", "enum:Colour", repeated=True),
        field("data", "bytes"),
    ),
    message("Things", field("data", "Thing", ITEMS, repeated=True)),
    message(
        "Thing",
        field("id", "string"),
        field("note", "string"),
        field("price", "google.type.Decimal"),
        field("tags", "string", repeated=True),
        field("part", "Thing"),
        field("parts", "Thing", repeated=True),
    ),
    message("Put", ID, field("owner", "string"), field("dry_run", "bool"), field("thing", "Thing")),
    message("Act", ID, field("id", "string"), field("note", "string"), field("count", "int32")),
    message("Change", ID, field("id", "string"), field("thing", "Thing"), field("update_mask", MASK)),
    message("Edit", ID, field("id", "string"), field("note", "string"), field("update_mask", MASK)),
    message("Batch", ID, field("data", "Thing", ITEMS, repeated=True)),
    message("Who", ID, field("country", "string"), field("uid", "string", PERSONAL)),
    message("Here", ID, field("url", "string", ADDRESS), field("text", "string")),
    rpcs=[
        {"name": "Find", "request": "Search", "response": "Things", "http": {"get": "/sites/{site_id}/no/{number}"}},
        {"name": "All", "request": "Search", "response": "Things", "http": {"get": "/all", "response_body": "data"}},
        {
            "name": "Put",
            "request": "Put",
            "response": "google.protobuf.Empty",
            "http": {"put": "/v1/{owner}/things/{thing.id}", "body": "thing"},
        },
        {"name": "Act", "request": "Act", "response": "Thing", "http": {"post": "/v1/things/{id}/act", "body": "*"}},
        {"name": "Change", "request": "Change", "response": "Thing", "http": {"patch": "/t/{id}", "body": "thing"}},
        {"name": "Edit", "request": "Edit", "response": "Thing", "http": {"patch": "/t/{id}", "body": "*"}},
        {"name": "Batch", "request": "Batch", "response": "Things", "http": {"post": "/v1/things", "body": "data"}},
        {"name": "Who", "request": "Who", "response": "Thing", "http": {"get": "/who/{country}/{uid}"}},
        {"name": "Here", "request": "Here", "response": "Thing", "http": {"get": "/"}},
    ],
)
OPERATIONS = {operation.name.rpartition("/")[2]: operation for operation in Registry.of([FILE]).operations.values()}


def request(operation: Operation, text: str) -> Any:
    return Parse(text, operation.request_type(), descriptor_pool=FILE.pool)


BOTH_WAYS = [
    ("Find", 'site_id: "A" number: 0', HttpRequest("GET", "/sites/A/no/0", (), None)),
    ("Find", 'site_id: "LOC 1/x" number: -7', HttpRequest("GET", "/sites/LOC%201%2Fx/no/-7", (), None)),
    (
        "Find",
        'site_id: "a?b#c%2e&d=;@:+" number: 1',
        HttpRequest("GET", "/sites/a%3Fb%23c%252e%26d%3D%3B%40%3A%2B/no/1", (), None),
    ),
    ("Find", 'site_id: "\\303\\274~..." number: 1', HttpRequest("GET", "/sites/%C3%BC~.../no/1", (), None)),
    (
        "All",
        'location_id: "L&1" include: "a" include: "b" flag: false limit: 9007199254740993 ratio: 0.1 text: ""',
        HttpRequest(
            "GET",
            "/all",
            (
                ("text", ""),
                ("filter[locationId]", "L&1"),
                ("include[]", "a"),
                ("include[]", "b"),
                ("flag", "false"),
                ("limit", "9007199254740993"),
                ("ratio", "0.1"),
            ),
            None,
        ),
    ),
    (
        "All",
        'site_id: "x" colour: GREEN colours: RED colours: GREEN data: "\\377" flag: true',
        HttpRequest(
            "GET",
            "/all",
            (
                ("site_id", "x"),
                ("flag", "true"),
                ("colour", "GREEN"),
                ("colours", "RED"),
                ("colours", "GREEN"),
                ("data", "/w=="),
            ),
            None,
        ),
    ),
    (
        "Put",
        'owner: "me" dry_run: true thing {id: "1/2" price {value: "0.10"}}',
        HttpRequest("PUT", "/v1/me/things/1%2F2", (("dry_run", "true"),), b'{"id":"1/2","price":0.10}'),
    ),
    ("Act", 'id: "7" count: 0', HttpRequest("POST", "/v1/things/7/act", (), b'{"count":0}')),
    ("Act", 'id: "7"', HttpRequest("POST", "/v1/things/7/act", (), b"{}")),
    ("Batch", 'data {id: "1"} data {}', HttpRequest("POST", "/v1/things", (), b'[{"id":"1"},{}]')),
    ("Batch", "", HttpRequest("POST", "/v1/things", (), b"[]")),
]


@pytest.mark.parametrize(("name", "text", "http"), BOTH_WAYS, ids=[f"{name} {text}" for name, text, _ in BOTH_WAYS])
def test_a_message_and_its_request_are_the_same_thing(name: str, text: str, http: HttpRequest) -> None:
    operation = OPERATIONS[name]
    made = request(operation, text)
    named = request(operation, f'integration_id: "secret" {text}')
    assert to_http(operation, made) == to_http(operation, named) == http
    variables = match(operation, http.method, http.path)
    assert variables is not None
    assert from_http(operation, variables, http.query, http.body or b"") == made


@pytest.mark.parametrize("value", ["", ".", "..", "../x", "a/..", "a/../b", "..\\x", "a/./b"])
def test_a_value_does_not_leave_its_place_in_the_path(value: str) -> None:
    for name, made, path in (
        ("Find", {"site_id": value, "number": 1}, "site_id"),
        ("Put", {"owner": "me", "thing": {"id": value}}, "thing.id"),
    ):
        operation = OPERATIONS[name]
        with pytest.raises(InvalidArgument) as caught:
            to_http(operation, operation.request_type(**made))
        assert [violation.path for violation in caught.value.violations] == [path]


@pytest.mark.parametrize(
    ("name", "text", "path"),
    [
        ("Find", "number: 1", "site_id"),
        ("Find", 'site_id: "a"', "number"),
        ("Put", 'owner: "me"', "thing.id"),
        ("All", "ratio: nan", "ratio"),
        ("All", "colours: 7", "colours"),
        ("Put", 'owner: "me" thing {id: "1" price {value: "x"}}', "thing.price"),
    ],
)
def test_a_request_that_cannot_be_written_is_our_callers_fault(name: str, text: str, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        to_http(OPERATIONS[name], request(OPERATIONS[name], text))
    assert [violation.path for violation in caught.value.violations] == [path]


def test_personal_data_in_a_path_is_sent_and_not_shown() -> None:
    who = OPERATIONS["Who"]
    http = to_http(who, request(who, 'country: "DE" uid: "0425"'))
    assert (http.path, http.shown_path, who.personal) == ("/who/DE/0425", "/who/DE/***", {"uid"})


def test_an_address_takes_the_place_of_the_integrations_and_does_not_travel() -> None:
    here = OPERATIONS["Here"]
    http = to_http(here, request(here, 'url: "http://a.example/x" text: "b"'))
    assert http == HttpRequest("GET", "", (("text", "b"),), None)
    assert here.address_field == "url"
    assert (match(here, "GET", "/"), match(here, "GET", "/a"), match(here, "GET", "//")) == ({}, None, None)


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("Find", "POST", "/sites/a/no/1"),
        ("Find", "GET", "sites/a/no/1"),
        ("Find", "GET", "/sites/a/no/1/"),
        ("Find", "GET", "/sites/a/no"),
        ("Find", "GET", "/sites/a/b/no/1"),
        ("Find", "GET", "/sites//no/1"),
        ("Find", "GET", "/sites/%2E%2e/no/1"),
        ("Find", "GET", "/sites/%2E%2e%2fx/no/1"),
        ("Find", "GET", "/sites/%FF/no/1"),
        ("Find", "GET", "/Sites/a/no/1"),
        ("All", "GET", ""),
        ("All", "GET", "/"),
        ("All", "GET", "*"),
    ],
)
def test_another_path_does_not_match(name: str, method: str, path: str) -> None:
    assert match(OPERATIONS[name], method, path) is None


def test_a_slash_inside_a_segment_belongs_to_its_value() -> None:
    assert match(OPERATIONS["Find"], "GET", "/%73ites/a%2Fb%252F/no/1") == {"site_id": "a/b%2F", "number": "1"}


@pytest.mark.parametrize(
    ("name", "variables", "query", "body", "pointer"),
    [
        ("Find", {"site_id": "a", "number": "x"}, [], b"", "/number"),
        ("Find", {"site_id": "a", "number": "2147483648"}, [], b"", "/number"),
        ("All", {}, [("flag", "1")], b"", "/flag"),
        ("All", {}, [("limit", "1.5")], b"", "/limit"),
        ("All", {}, [("limit", "")], b"", "/limit"),
        ("All", {}, [("ratio", "NaN")], b"", "/ratio"),
        ("All", {}, [("colours", "RED"), ("colours", "BLUE")], b"", "/colours"),
        ("All", {}, [("data", "?")], b"", "/data"),
        ("Put", {"owner": "me", "thing.id": "1"}, [], b"", ""),
        ("Put", {"owner": "me", "thing.id": "1"}, [], b'{"note": []}', "/note"),
        ("Act", {"id": "1"}, [], b'{"id": "2"}', ""),
        ("Batch", {}, [], b'[{"id": "1"}, {"id": true}]', "/1/id"),
    ],
)
def test_a_request_that_does_not_follow_the_contract_is_named_by_a_pointer(
    name: str, variables: dict[str, str], query: list[tuple[str, str]], body: bytes, pointer: str
) -> None:
    with pytest.raises(CodecError) as caught:
        from_http(OPERATIONS[name], variables, query, body)
    assert caught.value.pointer == pointer


def test_unknown_and_repeated_query_parameters_do_no_harm() -> None:
    query = [("new", "x"), ("text", "a"), ("text", "b"), ("integration_id", "x")]
    assert from_http(OPERATIONS["All"], {}, query, b"") == request(OPERATIONS["All"], 'text: "b"')


def test_the_path_wins_over_the_body() -> None:
    put = OPERATIONS["Put"]
    made = from_http(put, {"owner": "me", "thing.id": "1"}, [], b'{"id": "2", "note": "x"}')
    assert made == request(put, 'owner: "me" thing {id: "1" note: "x"}')


def test_a_reply_is_read_as_it_was_written() -> None:
    find, listed, put = OPERATIONS["Find"], OPERATIONS["All"], OPERATIONS["Put"]
    reply = Parse('data {id: "1"} data {note: ""}', find.response_type(), descriptor_pool=FILE.pool)
    for operation, body in ((find, b'{"data":[{"id":"1"},{"note":""}]}'), (listed, b'[{"id":"1"},{"note":""}]')):
        assert reply_to_http(operation, reply) == body
        assert reply_from_http(operation, body) == Decoded(reply)
    assert reply_to_http(put, put.response_type()) == b""
    assert reply_from_http(put, b"") == Decoded(put.response_type())


def test_a_bad_object_of_a_page_is_left_out() -> None:
    for name, body, pointer in (
        ("Find", b'{"data": [{"id": "1"}, {"id": {}}]}', "/data/1/id"),
        ("All", b'[{"id": "1"}, {"id": {}}]', "/1/id"),
    ):
        decoded = reply_from_http(OPERATIONS[name], body)
        assert [thing.id for thing in decoded.message.data] == ["1"]
        assert [reject.pointer for reject in decoded.rejects] == [pointer]


def test_a_reply_in_another_envelope_is_an_error() -> None:
    for name, body in (("Find", b"[]"), ("Find", b'{"items": []}'), ("All", b'{"data": []}'), ("Find", b"")):
        with pytest.raises(CodecError):
            reply_from_http(OPERATIONS[name], body)


def test_json_names_reach_the_query() -> None:
    partner = options.Partner(name="example", wire_names=options.WIRE_NAMES_JSON)
    file = contract(
        message("Search", ID, field("page_size", "int32"), field("by_id", "string", json_name="filter[id]")),
        message("Reply", field("name", "string")),
        rpcs=[{"name": "Find", "request": "Search", "response": "Reply", "http": {"get": "/x"}}],
        partner=partner,
    )
    (operation,) = Registry.of([file]).operations.values()
    made = operation.request_type(page_size=5, by_id="1")
    assert to_http(operation, made).query == (("pageSize", "5"), ("filter[id]", "1"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_value_survives_the_path_or_is_refused(value: str) -> None:
    find = OPERATIONS["Find"]
    made = find.request_type(site_id=value, number=1)
    try:
        http = to_http(find, made)
    except InvalidArgument:
        assert any(part in (".", "..") for part in value.replace("\\", "/").split("/"))
        return
    assert http.path.count("/") == 4
    assert http.path.isascii()
    variables = match(find, "GET", http.path)
    assert variables is not None
    assert from_http(find, variables, [], b"") == made


@pytest.mark.parametrize(
    ("name", "text", "body"),
    [
        ("Change", 'thing {id: "1"} update_mask {paths: "note"}', b'{"id":"1","note":null}'),
        ("Change", 'thing {note: ""} update_mask {paths: "note" paths: "price"}', b'{"note":"","price":null}'),
        ("Change", 'thing {id: "1"} update_mask {}', b'{"id":"1"}'),
        ("Change", 'thing {id: "1"}', b'{"id":"1"}'),
        ("Edit", 'update_mask {paths: "note"}', b'{"note":null}'),
    ],
)
def test_what_a_mask_names_and_nobody_set_travels_as_null(name: str, text: str, body: bytes) -> None:
    assert to_http(OPERATIONS[name], request(OPERATIONS[name], f'id: "7" {text}')).body == body


@pytest.mark.parametrize(
    ("name", "body", "paths"),
    [
        ("Change", b'{"id":"1","note":null,"price":null}', ["note", "price"]),
        ("Change", b'{"id":"1","unknown":null}', []),
        ("Change", b'{"id":"1","unknown":' + b'{"a":' * 500 + b"null" + b"}" * 501, []),
        ("Change", b'{"tags":[],"part":{"id":null},"parts":[{"id":null}]}', ["tags", "part.id"]),
        ("Edit", b'{"note":null}', ["note"]),
        ("Edit", b"{}", []),
    ],
)
def test_what_is_null_stands_in_the_mask(name: str, body: bytes, paths: list[str]) -> None:
    read: Any = from_http(OPERATIONS[name], {"id": "7"}, (), body)
    assert list(read.update_mask.paths) == paths


@pytest.mark.parametrize(
    ("name", "path", "shown"),
    [("Change", "colour", "thing.colour"), ("Change", "thing.note", "thing.thing.note"), ("Edit", "a.b", "a.b")],
)
def test_a_path_of_a_mask_that_is_no_field_is_named(name: str, path: str, shown: str) -> None:
    made = request(
        OPERATIONS[name],
        f'id: "7" thing {{}} update_mask {{paths: "{path}"}}'
        if name == "Change"
        else f'id: "7" update_mask {{paths: "{path}"}}',
    )
    with pytest.raises(InvalidArgument) as caught:
        to_http(OPERATIONS[name], made)
    assert [violation.path for violation in caught.value.violations] == [shown]
