"""JSON text <-> message."""

import json
from typing import Any

import pytest
from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.codec import Codec, CodecError, Decoded, compile_codec
from service.bridge.messages import MAX_REJECTS
from service.errors import InvalidArgument
from tests.contracts import ALSO_NAMED, INTEGRATION_ID, ITEMS, REQUIRED, SINK, contract, field, message


def const(text: str) -> Any:
    return validate_pb2.field, validate_pb2.FieldRules(string=validate_pb2.StringRules(const=text))


FILE = contract(
    message(
        "Thing",
        field("integration_id", "string", INTEGRATION_ID),
        field("text", "string"),
        field("count", "int32"),
        field("big", "int64"),
        field("small", "uint32"),
        field("ratio", "double"),
        field("flag", "bool"),
        field("data", "bytes"),
        field("colour", "enum:Colour"),
        field("price", "google.type.Decimal"),
        field("at", "google.protobuf.Timestamp"),
        field("raw", "google.protobuf.Value"),
        field("object", "google.protobuf.Struct"),
        field("array", "google.protobuf.ListValue"),
        field("tags", "string", repeated=True),
        field("counts", "int32", repeated=True),
        field("raws", "google.protobuf.Value", repeated=True),
        field("labels", "map:string:string"),
        field("things", "map:string:Leaf"),
        field("named", "map:string:Thing"),
        field("leaf", "Leaf"),
        field("leaves", "Leaf", repeated=True),
        field("inner_thing", "Thing"),
        field("filter_id", "string", json_name="filter[id]"),
        field("left", "string", oneof="side"),
        field("right", "string", oneof="side"),
        field("nothing", "google.protobuf.Empty"),
    ),
    message("Leaf", field("id", "string")),
    message("Kept", field("id", "string"), field("more", "google.protobuf.Struct", SINK), field("kept", "Kept")),
    message(
        "Owed", field("id", "string", REQUIRED), field("tags", "string", REQUIRED, repeated=True), field("n", "int32")
    ),
    message("Envelope", field("result", "Page")),
    message("Page", field("data", "Owed", ITEMS, repeated=True), field("total", "int32")),
    message(
        "Document",
        field("data", "Relation", REQUIRED),
        field("at", "google.protobuf.Timestamp", REQUIRED),
        field("others", "Document", repeated=True),
    ),
    message("Relation", field("data", "Leaf", REQUIRED)),
    message(
        "Tariff",
        field("id", "int32"),
        field("energy", "Energy", oneof="inlined_price"),
        field("time", "Time", oneof="inlined_price"),
        field("off", "Off", oneof="inlined_price"),
        field("role", "enum:PartyRole"),
        field("more", "google.protobuf.Struct", SINK),
    ),
    message(
        "Energy",
        field("type", "string", const("energy")),
        field("price", "google.type.Decimal", REQUIRED),
        field("windows", "Leaf", repeated=True),
    ),
    message("Time", field("type", "string", const("time")), field("price", "google.type.Decimal", REQUIRED)),
    message("Off", field("enabled", "bool", REQUIRED)),
    message("Tariffs", field("data", "Tariff", ITEMS, repeated=True)),
)


def codec(name: str, *, field_names: bool = True, **how: Any) -> Codec:
    return compile_codec(FILE.message_types_by_name[name], field_names=field_names, **how)


def make(name: str, text: str) -> Message:
    return Parse(text, GetMessageClass(FILE.message_types_by_name[name])(), descriptor_pool=FILE.pool)


BOTH_WAYS = [
    ("Thing", 'text: ""', '{"text":""}'),
    ("Thing", "count: 0 flag: false ratio: 0", '{"count":0,"ratio":0,"flag":false}'),
    ("Thing", 'text: "a\\"b\\n\\303\\274"', '{"text":"a\\"b\\nü"}'),
    ("Thing", "count: -2147483648 small: 4294967295", '{"count":-2147483648,"small":4294967295}'),
    ("Thing", "big: 9223372036854775807", '{"big":9223372036854775807}'),
    ("Thing", "ratio: 0.1", '{"ratio":0.1}'),
    ("Thing", "ratio: 1e300", '{"ratio":1e+300}'),
    ("Thing", 'data: "\\000\\377"', '{"data":"AP8="}'),
    ("Thing", "colour: GREEN", '{"colour":"GREEN"}'),
    ("Thing", 'price {value: "0.10"}', '{"price":0.10}'),
    ("Thing", 'price {value: "123456789012345678901234567890.5"}', '{"price":123456789012345678901234567890.5}'),
    ("Thing", 'price {value: "-7"}', '{"price":-7}'),
    ("Thing", "at {seconds: 1425446580}", '{"at":"2015-03-04T05:23:00Z"}'),
    ("Thing", "at {seconds: -1 nanos: 500000000}", '{"at":"1969-12-31T23:59:59.500Z"}'),
    ("Thing", "at {nanos: 120}", '{"at":"1970-01-01T00:00:00.000000120Z"}'),
    ("Thing", 'raw {string_value: "x"}', '{"raw":"x"}'),
    ("Thing", "raw {bool_value: true}", '{"raw":true}'),
    ("Thing", "raw {number_value: 1546297200000}", '{"raw":1546297200000}'),
    ("Thing", "raw {list_value {values {null_value: NULL_VALUE}}}", '{"raw":[null]}'),
    ("Thing", "raws {null_value: NULL_VALUE} raws {number_value: 1.5}", '{"raws":[null,1.5]}'),
    ("Thing", 'object {fields {key: "fields" value {struct_value {}}}}', '{"object":{"fields":{}}}'),
    ("Thing", "array {values {list_value {}}}", '{"array":[[]]}'),
    ("Thing", 'tags: "a" tags: ""', '{"tags":["a",""]}'),
    ("Thing", "counts: 0 counts: 3", '{"counts":[0,3]}'),
    ("Thing", 'labels {key: "b" value: "2"} labels {key: "a" value: "1"}', '{"labels":{"a":"1","b":"2"}}'),
    ("Thing", 'things {key: "a" value {id: "1"}}', '{"things":{"a":{"id":"1"}}}'),
    ("Thing", "leaf {} leaves {}", '{"leaf":{},"leaves":[{}]}'),
    ("Thing", 'inner_thing {inner_thing {text: "x"}}', '{"inner_thing":{"inner_thing":{"text":"x"}}}'),
    ("Thing", 'filter_id: "x"', '{"filter[id]":"x"}'),
    ("Thing", 'right: ""', '{"right":""}'),
    ("Thing", "nothing {}", '{"nothing":{}}'),
    ("Thing", "", "{}"),
    ("Kept", 'id: "1" more {fields {key: "x" value {number_value: 2}}}', '{"id":"1","x":2}'),
    ("Owed", "", '{"id":null,"tags":[]}'),
    ("Owed", 'id: "1" tags: "a" n: 0', '{"id":"1","tags":["a"],"n":0}'),
]


@pytest.mark.parametrize(("name", "text", "wire"), BOTH_WAYS, ids=[wire for _, _, wire in BOTH_WAYS])
def test_a_message_and_its_json_are_the_same_thing(name: str, text: str, wire: str) -> None:
    made = make(name, text)
    assert codec(name).encode(made) == wire
    assert codec(name).decode(wire) == Decoded(made)
    assert codec(name).decode(wire.encode()) == Decoded(made)


READ_ONLY = [
    ("Thing", '{"text": 12}', 'text: "12"'),
    ("Thing", '{"text": 12.50}', 'text: "12.50"'),
    ("Thing", '{"tags": ["a", 7, 1e3]}', 'tags: "a" tags: "7" tags: "1e3"'),
    ("Thing", '{"ratio": 7}', "ratio: 7"),
    ("Thing", '{"price": "0.250"}', 'price {value: "0.250"}'),
    ("Thing", '{"price": " +.5 "}', 'price {value: "0.5"}'),
    ("Thing", '{"at": "2015-03-04T07:23:00+02:00"}', "at {seconds: 1425446580}"),
    ("Thing", '{"text": null, "leaf": null, "tags": null, "labels": null, "raw": null, "count": 1}', "count: 1"),
    ("Thing", '{"count": 1, "new": {"a": [1]}}', "count: 1"),
    ("Thing", '{"integration_id": "x", "count": 1}', "count: 1"),
    ("Thing", ' {"count": 1, "count": 2} ', "count: 2"),
    ("Kept", '{"id": null, "x": 1}', 'more {fields {key: "x" value {number_value: 1}}}'),
    ("Kept", '{"kept": {"x": 1}}', 'kept {more {fields {key: "x" value {number_value: 1}}}}'),
    ("Owed", '{"id": null, "tags": null}', ""),
]


@pytest.mark.parametrize(("name", "wire", "text"), READ_ONLY, ids=[wire for _, wire, _ in READ_ONLY])
def test_partners_write_some_things_differently(name: str, wire: str, text: str) -> None:
    assert codec(name).decode(wire).message == make(name, text)


REFUSED = [
    ("Thing", b"", ""),
    ("Thing", b"  ", ""),
    ("Thing", b"<html>", ""),
    ("Thing", b'{"text": "\xff"}', ""),
    ("Thing", b'{"ratio": NaN}', ""),
    ("Thing", b'{"ratio": -Infinity}', ""),
    ("Thing", b'{"big": 1' + b"0" * 5000 + b"}", ""),
    ("Thing", b"[" * 100_000, ""),
    ("Thing", b"[]", ""),
    ("Thing", b"null", ""),
    ("Thing", b'"text"', ""),
    ("Thing", b'{"data": {"text": "x"}}', "/data"),
    ("Thing", b'{"envelope": {"text": "x"}}', ""),
    ("Thing", b'{"text": true}', "/text"),
    ("Thing", b'{"text": {}}', "/text"),
    ("Thing", b'{"text": "\\ud800"}', "/text"),
    ("Thing", b'{"count": "1"}', "/count"),
    ("Thing", b'{"count": true}', "/count"),
    ("Thing", b'{"count": 1.0}', "/count"),
    ("Thing", b'{"count": 2147483648}', "/count"),
    ("Thing", b'{"big": 9223372036854775808}', "/big"),
    ("Thing", b'{"big": 1' + b"0" * 400 + b"}", "/big"),
    ("Thing", b'{"small": -1}', "/small"),
    ("Thing", b'{"ratio": "1"}', "/ratio"),
    ("Thing", b'{"ratio": true}', "/ratio"),
    ("Thing", b'{"ratio": 1e999}', "/ratio"),
    ("Thing", b'{"ratio": 1' + b"0" * 400 + b"}", "/ratio"),
    ("Thing", b'{"flag": 1}', "/flag"),
    ("Thing", b'{"flag": "true"}', "/flag"),
    ("Thing", b'{"data": "?"}', "/data"),
    ("Thing", b'{"data": "\xc3\xbc"}', "/data"),
    ("Thing", b'{"colour": "BLUE"}', "/colour"),
    ("Thing", b'{"colour": 1}', "/colour"),
    ("Thing", b'{"price": "cheap"}', "/price"),
    ("Thing", b'{"price": "NaN"}', "/price"),
    ("Thing", b'{"price": true}', "/price"),
    ("Thing", b'{"at": "2015-03-04T05:23:00"}', "/at"),
    ("Thing", b'{"at": "2015-02-30T00:00:00Z"}', "/at"),
    ("Thing", b'{"at": "0001-01-01T00:00:00+01:00"}', "/at"),
    ("Thing", b'{"at": 1425446580}', "/at"),
    ("Thing", b'{"object": []}', "/object"),
    ("Thing", b'{"array": {}}', "/array"),
    ("Thing", b'{"object": {"a": 1e999}}', "/object"),
    ("Thing", b'{"object": {"\\ud800": 1}}', "/object"),
    ("Thing", b'{"tags": "abc"}', "/tags"),
    ("Thing", b'{"tags": ["a", null]}', "/tags/1"),
    ("Thing", b'{"counts": [1, 2147483648]}', "/counts/1"),
    ("Thing", b'{"labels": []}', "/labels"),
    ("Thing", b'{"labels": {"a": "", "secret": null}}', "/labels/1"),
    ("Thing", b'{"leaf": []}', "/leaf"),
    ("Thing", b'{"leaf": {"new": 1}}', "/leaf"),
    ("Thing", b'{"leaves": [{}, {"id": []}]}', "/leaves/1/id"),
    ("Thing", b'{"left": "", "right": ""}', ""),
    ("Kept", b'{"x": 1}', ""),
    ("Kept", b'{"id": "1", "x": 1e999}', ""),
    ("Owed", b'{"id": "1"}', "/tags"),
    ("Owed", b"{}", "/id"),
]


@pytest.mark.parametrize(("name", "wire", "pointer"), REFUSED, ids=[str(wire[:40]) for _, wire, _ in REFUSED])
def test_what_does_not_follow_the_contract_is_named_by_a_pointer(name: str, wire: bytes, pointer: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec(name).decode(wire)
    assert caught.value.pointer == pointer
    for words in ("secret", "cheap", "BLUE", "abc", "envelope"):
        assert words not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "opening", "closing", "limit"),
    [
        ("inner_thing", '{"inner_thing":', "}", 63),
        ("named", '{"a":{"named":', "}}", 32),
        ("object", '{"a":', "}", 33),
        ("raw", '{"a":', "}", 33),
        ("raw", "[", "]", 33),
    ],
)
def test_json_is_read_as_deep_as_the_message_can_be_parsed_again(
    name: str, opening: str, closing: str, limit: int
) -> None:
    def nested(depth: int) -> str:
        return f'{{"{name}":' + opening * (depth - 1) + ("[]" if opening == "[" else "{}") + closing * (depth - 1) + "}"

    for depth in range(1, limit + 1):
        decoded = codec("Thing").decode(nested(depth)).message
        assert type(decoded).FromString(decoded.SerializeToString()) == decoded
    for depth in (limit + 1, 90, 900):
        with pytest.raises(CodecError):
            codec("Thing").decode(nested(depth))


def test_the_partner_decides_how_fields_are_called() -> None:
    thing = make("Thing", 'inner_thing {filter_id: "x"}')
    assert codec("Thing", field_names=True).encode(thing) == '{"inner_thing":{"filter[id]":"x"}}'
    assert codec("Thing", field_names=False).encode(thing) == '{"innerThing":{"filter[id]":"x"}}'
    assert codec("Thing", field_names=False).decode('{"innerThing":{"filter[id]":"x"}}').message == thing


def test_the_field_that_names_the_integration_never_travels() -> None:
    assert codec("Thing").encode(make("Thing", 'integration_id: "i" leaf {}')) == '{"leaf":{}}'


def test_an_empty_message_is_an_empty_body() -> None:
    empty = compile_codec(empty_pb2.Empty.DESCRIPTOR, field_names=True)
    assert empty.encode(empty_pb2.Empty()) == ""
    for body in (b"", b"\n", b"{}", b'{"deleted": true}'):
        assert empty.decode(body) == Decoded(empty_pb2.Empty())
    with pytest.raises(CodecError):
        empty.decode(b"OK")


def test_a_sink_never_speaks_for_the_contract() -> None:
    kept = make("Kept", 'id: "1" more {fields {key: "id" value {string_value: "2"}}}')
    assert codec("Kept").encode(kept) == '{"id":"1"}'
    kept.ClearField("id")
    assert codec("Kept").encode(kept) == "{}"


def test_a_page_of_bad_items_is_a_bad_page() -> None:
    bad, good = {"tags": []}, {"id": "1", "tags": []}
    assert len(codec("Page").decode(json.dumps({"data": [bad] * MAX_REJECTS + [good]})).rejects) == MAX_REJECTS
    with pytest.raises(CodecError):
        codec("Page").decode(json.dumps({"data": [bad] * (MAX_REJECTS + 1)}))


def test_a_bad_item_costs_that_item_alone() -> None:
    good, other = {"id": "1", "tags": []}, {"id": "4", "tags": ["a"]}
    for bad in ({"tags": []}, {"id": "x", "tags": [True]}, "x", None, {"id": "\ud800", "tags": []}, {"new": 1}):
        decoded = codec("Page").decode(json.dumps({"data": [good, bad, other], "total": 3}))
        assert [item.id for item in decoded.message.data] == ["1", "4"]
        assert [reject.pointer.split("/")[1:3] for reject in decoded.rejects] == [["data", "1"]]
    too_big = {"id": "x", "tags": [], "n": 2**31}
    decoded = codec("Envelope").decode(json.dumps({"result": {"data": [too_big, good, too_big]}}))
    assert [item.id for item in decoded.message.result.data] == ["1"]
    assert [reject.pointer for reject in decoded.rejects] == ["/result/data/0/n", "/result/data/2/n"]


@pytest.mark.parametrize("body", ['{"at": null, "data": null}', '{"data": null, "at": null, "new": 1}', '{"at": null}'])
def test_a_body_without_its_required_message_is_no_document(body: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec("Document").decode(body)
    assert (caught.value.pointer, caught.value.problem) == ("/data", "is missing")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ('{"at": null, "data": {"data": null}}', "data {}"),
        ('{"at": null, "data": {"data": {}}, "others": [{"at": null, "data": null}]}', "data {data {}} others {}"),
    ],
)
def test_inside_a_body_a_required_message_that_is_null_is_none(body: str, text: str) -> None:
    document = make("Document", text)
    assert codec("Document").decode(body) == Decoded(document)
    assert json.loads(codec("Document").encode(document)) == json.loads(body)


def test_inside_a_body_a_required_message_must_still_be_there() -> None:
    with pytest.raises(CodecError) as caught:
        codec("Document").decode('{"at": null, "data": {}}')
    assert caught.value.pointer == "/data/data"


def test_a_page_that_is_no_list_is_an_error() -> None:
    with pytest.raises(CodecError) as caught:
        codec("Page").decode('{"data": {"id": "1", "tags": []}}')
    assert caught.value.pointer == "/data"


CLEARED = [
    ("", {"text"}, '{"text":null}'),
    ('text: "x"', {"text"}, '{"text":"x"}'),
    ("", {"tags", "labels"}, '{"labels":{},"tags":[]}'),
    ("", {"leaf", "price"}, '{"leaf":null,"price":null}'),
    ("", {"leaf.id"}, '{"leaf":{"id":null}}'),
    ("leaf {}", {"leaf.id", "leaf"}, '{"leaf":{"id":null}}'),
    (
        "inner_thing {count: 1}",
        {"inner_thing.inner_thing.text"},
        '{"inner_thing":{"count":1,"inner_thing":{"text":null}}}',
    ),
    ("", {"integration_id"}, "{}"),
]


@pytest.mark.parametrize(("text", "clear", "wire"), CLEARED, ids=[wire for _, _, wire in CLEARED])
def test_a_cleared_field_travels_as_null(text: str, clear: set[str], wire: str) -> None:
    assert json.loads(codec("Thing").encode(make("Thing", text), frozenset(clear))) == json.loads(wire)


@pytest.mark.parametrize(
    "path", ["", "colour_code", "leaf.name", "leaves.id", "price.value", "object.fields", "text.x"]
)
def test_only_fields_can_be_cleared(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec("Thing").encode(make("Thing", ""), frozenset({path}))
    assert [violation.path for violation in caught.value.violations] == [path]


UNWRITABLE = [
    ("ratio: nan", "ratio"),
    ("ratio: inf", "ratio"),
    ("colour: 7", "colour"),
    ('price {value: "cheap"}', "price"),
    ("price {}", "price"),
    ("at {seconds: 253402300800}", "at"),
    ("at {nanos: -1}", "at"),
    ("inner_thing {raw {number_value: inf}}", "inner_thing.raw"),
]


@pytest.mark.parametrize(("text", "path"), UNWRITABLE)
def test_what_json_cannot_carry_is_our_callers_fault(text: str, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec("Thing").encode(make("Thing", text))
    assert [violation.path for violation in caught.value.violations] == [path]


def test_a_body_may_be_one_field_of_the_message() -> None:
    leaf = make("Thing", 'leaf {id: "1"}')
    assert codec("Thing", member="leaf").encode(leaf) == '{"id":"1"}'
    assert codec("Thing", member="leaf").encode(make("Thing", "leaf {}"), frozenset({"id"})) == '{"id":null}'
    assert codec("Thing", member="leaf").decode('{"id":"1"}').message == leaf
    leaves = make("Thing", 'leaves {id: "1"} leaves {id: "2"}')
    assert codec("Thing", member="leaves").encode(leaves) == '[{"id":"1"},{"id":"2"}]'
    assert codec("Thing", member="leaves").decode('[{"id":"1"},{"id":"2"}]').message == leaves
    assert codec("Thing", member="leaves").encode(make("Thing", "")) == "[]"
    for body in ("", "null", '{"new":1}'):
        with pytest.raises(CodecError):
            codec("Thing", member="leaf").decode(body)
    with pytest.raises(InvalidArgument):
        codec("Thing", member="leaf").encode(make("Thing", ""))
    with pytest.raises(InvalidArgument):
        codec("Thing", member="leaves").encode(leaves, frozenset({"id"}))


def test_a_body_may_leave_fields_out() -> None:
    thing = make("Thing", 'text: "x" count: 1')
    assert codec("Thing", without=frozenset({"text"})).encode(thing) == '{"count":1}'
    assert codec("Thing", without=frozenset({"text"})).decode('{"text":"y","count":1}').message == make(
        "Thing", "count: 1"
    )


SPELT = contract(
    message(
        "Spelt",
        field("id", "string", (ALSO_NAMED, ["integrationId", "ID"]), REQUIRED),
        field("more", "google.protobuf.Struct", SINK),
    )
).message_types_by_name["Spelt"]


@pytest.mark.parametrize(
    ("wire", "id"),
    [
        ('{"id": "1"}', "1"),
        ('{"integrationId": "1"}', "1"),
        ('{"ID": "2", "integrationId": "1"}', "1"),
        ('{"ID": "2", "integrationId": null}', "2"),
        ('{"integrationId": "2", "id": "1"}', "1"),
        ('{"integrationId": "2", "id": null}', "2"),
        ('{"integrationId": "2", "id": ""}', ""),
    ],
)
def test_a_field_is_read_under_every_name_and_written_under_its_own(wire: str, id: str) -> None:
    spelt = compile_codec(SPELT, field_names=True)
    message = spelt.decode(wire).message
    assert message == GetMessageClass(SPELT)(id=id)
    assert json.loads(spelt.encode(message)) == {"id": id}


def test_another_name_is_the_contracts_too() -> None:
    spelt = compile_codec(SPELT, field_names=True)
    with pytest.raises(CodecError, match="/id must be a string"):
        spelt.decode('{"ID": []}')
    with pytest.raises(CodecError, match="has none of the members"):
        spelt.decode('{"Id": "1"}')
    assert spelt.encode(GetMessageClass(SPELT)(id="1", more={"ID": "2", "n": None})) == '{"id":"1","n":null}'


def test_a_codec_is_compiled_once() -> None:
    assert codec("Thing") is codec("Thing")
    assert codec("Thing") is not codec("Thing", field_names=False)


INLINED = [
    ('id: 1 energy {type: "energy" price {value: "0.30"}}', '{"id":1,"type":"energy","price":0.30}'),
    ('id: 1 time {type: "time" price {value: "2"}}', '{"id":1,"type":"time","price":2}'),
    ('energy {price {value: "1"} windows {id: "w"}}', '{"price":1,"windows":[{"id":"w"}]}'),
    ("off {enabled: false}", '{"enabled":false}'),
    (
        'off {enabled: true} more {fields {key: "x" value {bool_value: true}}}',
        '{"enabled":true,"x":true}',
    ),
    ("id: 1", '{"id":1}'),
]


@pytest.mark.parametrize(("text", "wire"), INLINED, ids=[wire for _, wire in INLINED])
def test_the_fields_of_an_inlined_message_stand_in_the_object_around_it(text: str, wire: str) -> None:
    tariff = make("Tariff", text)
    assert codec("Tariff").encode(tariff) == wire
    assert codec("Tariff").decode(wire) == Decoded(tariff)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ('{"id": 1, "price": null, "enabled": null}', "id: 1"),
        ('{"enabled": true, "price": null, "type": null}', "off {enabled: true}"),
        ('{"type": "energy", "price": 1, "enabled": false}', 'energy {type: "energy" price {value: "1"}}'),
    ],
)
def test_the_member_that_knows_most_of_the_names_is_read(wire: str, text: str) -> None:
    read = codec("Tariff").decode(wire).message
    read.ClearField("more")
    assert read == make("Tariff", text)


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        ('{"price": 1}', "fits several of energy/time/off"),
        ('{"type": "free", "price": 1}', "fits none of energy/time/off"),
        ('{"type": "time"}', "fits none of energy/time/off"),
    ],
)
def test_an_inlined_message_that_is_not_certain_is_an_error(wire: str, problem: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec("Tariff").decode(wire)
    assert (caught.value.pointer, caught.value.problem) == ("", problem)
    page = codec("Tariffs").decode(f'{{"data": [{wire}, {{"id": 2}}]}}')
    assert [each.id for each in page.message.data] == [2]
    assert [reject.pointer for reject in page.rejects] == ["/data/0"]


def test_a_sink_does_not_speak_for_inlined_messages_either() -> None:
    tariff = make("Tariff", 'off {enabled: true} more {fields {key: "price" value {number_value: 2}}}')
    assert codec("Tariff").encode(tariff) == '{"enabled":true}'


ROLES = [("OpenData", 1), ("CPO", 2), ("EMSP", 3)]


@pytest.mark.parametrize(("name", "number"), ROLES)
def test_an_enum_value_is_called_by_its_wire_name_or_its_place(name: str, number: int) -> None:
    tariff = make("Tariff", f"id: 1 role: {number}")
    assert codec("Tariff").encode(tariff) == f'{{"id":1,"role":"{name}"}}'
    for said in (f'"{name}"', str(number - 1)):
        assert codec("Tariff").decode(f'{{"id":1,"role":{said}}}').message == tariff


@pytest.mark.parametrize("said", ['"UNSPECIFIED"', '"PARTY_ROLE_CPO"', '"OPEN_DATA"', "3", "-1", "true", "1.0", '"1"'])
def test_no_other_name_or_number_is_a_value(said: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec("Tariff").decode(f'{{"id":1,"role":{said}}}')
    assert caught.value.pointer == "/role"


def test_the_unspecified_value_does_not_travel() -> None:
    with pytest.raises(InvalidArgument):
        codec("Tariff").encode(make("Tariff", "role: PARTY_ROLE_UNSPECIFIED"))


PATHS = [
    ("Thing", None, "leaf/id", "leaf.id"),
    ("Thing", None, "leaves/2/id", "leaves[2].id"),
    ("Thing", None, "tags/0", "tags[0]"),
    ("Thing", None, "filter[id]", "filter_id"),
    ("Thing", "leaf", "id", "leaf.id"),
    ("Thing", "leaves", "1/id", "leaves[1].id"),
    ("Tariff", None, "price", "time.price"),
    ("Tariff", None, "enabled", "off.enabled"),
    ("Thing", None, "unknown", ""),
    ("Thing", None, "leaf/unknown", ""),
    ("Thing", None, "text/deeper", ""),
    ("Thing", None, "integration_id", ""),
]


@pytest.mark.parametrize(("name", "member", "pointer", "path"), PATHS)
def test_a_place_on_the_wire_has_a_field_path(name: str, member: str | None, pointer: str, path: str) -> None:
    assert codec(name, member=member).field_path(pointer.split("/")) == path


DOCUMENT = """{
  "data": {
    "id": "6f1f1c7a-1c0e-4d5b-9a38-0a8f4f9f6b11",
    "type": "company",
    "attributes": {
      "name": "Stadtwerke Mühlbach",
      "created_at": 1700000000000,
      "updated_at": 1700000000123,
      "version": 4,
      "url": "https://laden.example/",
      "is_cpo": true,
      "is_emp": false,
      "external_source_mapping": {
        "plugsurfing_ids": null,
        "going_electric_names": ["Mühlbach"],
        "going_electric_charge_card_ids": null,
        "google_sheet_names": null,
        "open_charge_map_operator_ids": [77],
        "evse_operator_ids": ["AT*MUE"]
      },
      "logo": {"height": 120.5}
    },
    "relationships": {
      "supported_emps": {"data": [{"type": "company", "id": "0b1c7a52-7b6d-4d0c-8d0c-3a1f2b3c4d5e"}]},
      "cpo_group": {"data": null}
    }
  },
  "jsonapi": {"version": "1.0"}
}"""


def test_a_company_of_chargeprice_keeps_everything() -> None:
    document_codec = compile_codec(chargeprice.CompanyDocument.DESCRIPTOR, field_names=True)
    document = document_codec.decode(DOCUMENT).message
    attributes = document.data.attributes
    assert (attributes.version, attributes.updated_at, attributes.is_emp) == (4, 1700000000123, False)
    assert attributes.HasField("is_emp")
    assert list(attributes.external_source_mapping.open_charge_map_operator_ids) == ["77"]
    assert document.data.relationships.HasField("cpo_group")
    assert not document.data.relationships.cpo_group.HasField("data")
    expected = json.loads(DOCUMENT)
    mapping = expected["data"]["attributes"]["external_source_mapping"]
    expected["data"]["attributes"]["external_source_mapping"] = {
        name: ["77"] if names == [77] else names for name, names in mapping.items() if names is not None
    }
    assert json.loads(document_codec.encode(document)) == expected


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KINDS: dict[int, st.SearchStrategy[Any]] = {
    1: st.floats(allow_nan=False, allow_infinity=False),
    3: st.integers(-(2**63), 2**63 - 1),
    5: st.integers(-(2**31), 2**31 - 1),
    8: st.booleans(),
    9: TEXT,
}


def messages(descriptor: Any) -> st.SearchStrategy[dict[str, Any]]:
    """What the constructor of any message of the type may be given; a sink never holds a name of the contract."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for each in descriptor.fields:
        if each.GetOptions().Extensions[options.sink]:
            known = set(descriptor.fields_by_name)
            value = st.dictionaries(
                TEXT.filter(lambda name, known=known: name not in known), JSON, min_size=1, max_size=3
            )
        else:
            value = messages(each.message_type) if each.message_type else KINDS[each.type]
        fields[each.name] = st.lists(value, min_size=1, max_size=3) if each.is_repeated else value
    return st.fixed_dictionaries({}, optional=fields)


@given(messages(chargeprice.CompanyDocument.DESCRIPTOR).filter(lambda values: "data" in values))
def test_every_company_survives_the_wire(values: dict[str, Any]) -> None:
    document = chargeprice.CompanyDocument(**values)
    document_codec = compile_codec(chargeprice.CompanyDocument.DESCRIPTOR, field_names=True)
    assert document_codec.decode(document_codec.encode(document)) == Decoded(document)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_decimal_keeps_its_digits(number: Any) -> None:
    thing = make("Thing", f'price {{value: "{number}"}}')
    assert codec("Thing").decode(codec("Thing").encode(thing)).message == thing


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_partner_sends_is_a_message_or_a_codec_error(body: bytes) -> None:
    for name in ("Thing", "Kept", "Page"):
        try:
            codec(name).decode(body)
        except CodecError:
            continue
