"""What partners in PHP, Rails and Node write is read as they mean it, by a codec that is lenient."""

import json
from random import Random
from typing import Any

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2, location_pb2, tariff_pb2
from evbridge.partner.chargeprice.v1 import company_pb2
from google.api import field_behavior_pb2 as behavior
from google.protobuf import empty_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bridge.codec import Codec, CodecError, Decoded, compile_codec
from service.bridge.json_text import MAX_VALUES, Number, parse_json, takes_long, values_in
from service.bridge.wire import is_map, wire_name
from tests.filling import filled
from tests.unit.test_codec import FILE, make


def codec(name: str, **how: Any) -> Codec:
    return compile_codec(FILE.message_types_by_name[name], field_names=True, lenient=True, **how)


DEEP = "[" * 50_000 + "]" * 50_000
OBJECTS = '{"a":' * 5000 + "1" + "}" * 5000
MESSAGES = '{"inner_thing":' * 5000 + "{}" + "}" * 5000
DIGITS = "9" * 5000

MEANT = [
    ("Thing", '{"leaf": []}', "leaf {}"),
    ("Thing", '{"leaf": ""}', ""),
    ("Thing", '{"object": []}', "object {}"),
    ("Thing", '{"object": ["a"]}', 'object {fields {key: "0" value {string_value: "a"}}}'),
    ("Thing", '{"labels": []}', ""),
    ("Thing", '{"labels": ["x", "y"]}', 'labels {key: "0" value: "x"} labels {key: "1" value: "y"}'),
    ("Thing", '{"labels": {"a": "x", "b": null}}', 'labels {key: "a" value: "x"}'),
    ("Thing", '{"things": {"a": [], "b": ""}}', 'things {key: "a" value {}}'),
    ("Thing", '{"tags": {"0": "a", "1": "b"}}', 'tags: "a" tags: "b"'),
    ("Thing", '{"tags": {"7": "a", "3": "b"}}', 'tags: "a" tags: "b"'),
    ("Thing", '{"tags": {}}', ""),
    ("Thing", '{"tags": ""}', ""),
    ("Thing", '{"tags": ["a", null, ""]}', 'tags: "a" tags: ""'),
    ("Thing", '{"leaves": {"0": {"id": "1"}, "2": []}}', 'leaves {id: "1"} leaves {}'),
    ("Thing", '{"counts": ["1", 2.0, null, "", "3.0"]}', "counts: 1 counts: 2 counts: 3"),
    ("Thing", '{"array": {"0": 1}}', "array {values {number_value: 1}}"),
    ("Thing", '{"raws": [null, []]}', "raws {null_value: NULL_VALUE} raws {list_value {}}"),
    ("Thing", '{"count": 22000.0}', "count: 22000"),
    ("Thing", '{"count": "22000"}', "count: 22000"),
    ("Thing", '{"count": " -7 "}', "count: -7"),
    ("Thing", '{"count": 1e0}', "count: 1"),
    ("Thing", '{"count": "2.2e4"}', "count: 22000"),
    ("Thing", '{"count": ""}', ""),
    ("Thing", '{"big": "9223372036854775807"}', "big: 9223372036854775807"),
    ("Thing", '{"ratio": "52.51"}', "ratio: 52.51"),
    ("Thing", '{"ratio": "-.5"}', "ratio: -0.5"),
    ("Thing", '{"ratio": ""}', ""),
    ("Thing", '{"ratio": NaN, "text": NaN, "count": 1}', "count: 1"),
    ("Thing", '{"price": ""}', ""),
    ("Thing", '{"flag": 1}', "flag: true"),
    ("Thing", '{"flag": 0}', "flag: false"),
    ("Thing", '{"flag": "1"}', "flag: true"),
    ("Thing", '{"flag": "False"}', "flag: false"),
    ("Thing", '{"flag": ""}', ""),
    ("Thing", '{"colour": ""}', ""),
    ("Thing", '{"at": ""}', ""),
    ("Thing", '{"count": "1", "text": ""}', 'count: 1 text: ""'),
    ("Thing", '{"left": "a", "right": null, "count": "1"}', 'left: "a" count: 1'),
    ("Thing", '{"text": "caf\\ud83d"}', 'text: "caf\\357\\277\\275"'),
    ("Thing", '{"text": "a\tb"}', 'text: "a\\tb"'),
    ("Thing", '\ufeff{"count": 1}', "count: 1"),
    ("Tariff", '{"role": "1"}', "role: PARTY_ROLE_CPO"),
    ("Tariff", '{"id": 1.0, "enabled": "1"}', "id: 1 off {enabled: true}"),
    ("Owed", '{"id": "", "tags": ""}', 'id: ""'),
    # A member nobody knows that no message can hold is left out; its neighbours stay.
    ("Kept", '{"id": "1", "x": 1e999, "y": 2}', 'id: "1" more {fields {key: "y" value {number_value: 2}}}'),
    ("Kept", f'{{"id": "1", "x": {DIGITS}}}', 'id: "1" more {}'),
    ("Kept", '{"id": "1", "x": -Infinity}', 'id: "1" more {}'),
    ("Kept", f'{{"id": "1", "x": {"[" * 40 + "]" * 40}}}', 'id: "1" more {}'),
    ("Kept", f'{{"id": "1", "x": {DEEP}}}', 'id: "1" more {}'),
    ("Kept", f'{{"id": "1", "x": {OBJECTS}}}', 'id: "1" more {}'),
    ("Thing", f'{{"text": "1", "x": {DEEP}, "y": "]}}[{{\\""}}', 'text: "1"'),
    ("Thing", f'{{"text": "1", "x": {DIGITS}}}', 'text: "1"'),
    (
        "Thing",
        '{"object": {"a": 1e999, "b": {"c": [1e999]}, "d": {"e": []}}}',
        'object {fields {key: "d" value {struct_value {fields {key: "e" value {list_value {}}}}}}}',
    ),
]


@pytest.mark.parametrize(("name", "wire", "text"), MEANT, ids=[wire[:50] for _, wire, _ in MEANT])
def test_what_is_written_otherwise_is_read_as_it_is_meant_and_counted(name: str, wire: str, text: str) -> None:
    for body in (wire, wire.encode()):
        decoded = codec(name).decode(body)
        assert decoded.message == make(name, text)
        assert decoded.rejects == ()
        counted = (decoded.repairs, decoded.repair is not None)
        assert counted == (0, False) if wire.startswith(NOT_COUNTED) else counted[0] > 0 and counted[1]


NOT_COUNTED = ('{"raws"',)


STILL_REFUSED = [
    ("Thing", '{"leaf": ["x"]}', "/leaf", "must be an object, at most 64 deep"),
    ("Thing", '{"tags": {"0": "a", "x": "b"}}', "/tags", "must be an array"),
    ("Thing", '{"count": 1.5}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"count": "2147483648"}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"count": 1e999}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"big": 1e999999999999}', "/big", "must be an integer from -9223372036854775808 to 9223372036854775807"),
    ("Thing", '{"count": "1_0"}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"count": "\u0661"}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"count": true}', "/count", "must be an integer from -2147483648 to 2147483647"),
    ("Thing", '{"ratio": "52,51"}', "/ratio", "must be a number"),
    ("Thing", '{"ratio": "NaN"}', "/ratio", "must be a number"),
    ("Thing", '{"ratio": Infinity}', "/ratio", "must be a number"),
    ("Thing", f'{{"ratio": {DIGITS}}}', "/ratio", "is too large a number"),
    ("Thing", '{"flag": 2}', "/flag", "must be true or false"),
    ("Thing", '{"flag": "yes"}', "/flag", "must be true or false"),
    ("Thing", '{"flag": []}', "/flag", "must be true or false"),
    ("Thing", '{"text": []}', "/text", "must be a string"),
    ("Thing", '{"colour": "BLUE"}', "/colour", "is not a value the contract knows"),
    ("Thing", MESSAGES, None, "must be an object, at most 64 deep"),
    ("Thing", "[]", "", "must be an object, at most 64 deep"),
    ("Thing", "{", "", "is not JSON in UTF-8 with finite numbers"),
    ("Thing", "[" * 5000, "", "is nested too deeply"),
    ("Thing", "\ufeff", "", "is not JSON in UTF-8 with finite numbers"),
    # Nothing is taken for "there is none": an import would remove what is missing.
    ("Document", '{"data": [], "at": ""}', "/data", "is missing"),
    ("Document", '{"data": "", "at": ""}', "/data", "is missing"),
    ("Page", "[]", "", "must be an object, at most 64 deep"),
    ("Page", '{"data": ""}', "/data", "must be an array"),
    ("Page", '{"data": {}}', "/data", "must be an array"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wire", "pointer", "problem"), STILL_REFUSED, ids=[wire[:50] for _, wire, *_ in STILL_REFUSED]
)
def test_what_nobody_can_mean_is_still_refused(name: str, wire: str, pointer: str | None, problem: str) -> None:
    with pytest.raises(CodecError) as caught:
        codec(name).decode(wire)
    assert caught.value.problem == problem
    assert pointer is None or caught.value.pointer == pointer


@pytest.mark.parametrize(("name", "wire", "text"), MEANT, ids=[wire[:50] for _, wire, _ in MEANT])
def test_a_strict_codec_refuses_it(name: str, wire: str, text: str) -> None:
    if wire.startswith(NOT_COUNTED):
        return
    with pytest.raises(CodecError):
        compile_codec(FILE.message_types_by_name[name], field_names=True).decode(wire)


def test_what_was_read_otherwise_has_an_example_of_the_contracts_own_words() -> None:
    decoded = codec("Thing").decode(
        '{"leaves": [{"id": "1"}, []], "count": "secret", "flag": 1}'.replace("secret", "7")
    )
    assert decoded.repairs == 3
    assert (decoded.repair.pointer, decoded.repair.problem) == ("/leaves/1", "is an array")  # type: ignore[union-attr]
    decoded = codec("Kept").decode('{"id": "1", "secret": 1e999}')
    assert str(decoded.repair) == "the body had a member left out, which is too large a number"


def test_an_object_of_a_page_is_known_by_its_id_when_it_cannot_be_read() -> None:
    page = {"0": {"id": "1", "tags": []}, "1": {"id": 4711, "tags": 1}, "2": {"id": "\u00fc", "tags": 1}, "3": 5}
    decoded = codec("Page").decode(json.dumps({"data": page}))
    assert [item.id for item in decoded.message.data] == ["1"]
    assert [(reject.pointer, reject.object_id) for reject in decoded.rejects] == [
        ("/data/1/tags", "4711"),
        ("/data/2/tags", ""),
        ("/data/3", ""),
    ]
    assert codec("Page").decode(json.dumps({"data": [{"id": "x" * 65, "tags": 1}]})).rejects[0].object_id == ""


def test_an_empty_answer_may_be_an_empty_list() -> None:
    empty = compile_codec(empty_pb2.Empty.DESCRIPTOR, field_names=True, lenient=True)
    assert empty.decode("[]").message == empty_pb2.Empty()
    assert codec("Thing", member="leaves").decode('{"0": {"id": "1"}}').message == make("Thing", 'leaves {id: "1"}')


def test_values_are_counted_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    parse = parse_json.__globals__["_by_and_by"]
    monkeypatch.setitem(parse_json.__globals__, "_by_and_by", lambda text: parsed.append(len(text)) or parse(text))
    for unit in ("1,", "[],", '{"a":1},'):
        values = values_in(unit)
        within = "[" + unit * ((MAX_VALUES - 2) // values) + "1]"
        beyond = "[" + unit * (MAX_VALUES // values) + "1]"
        for text in (within, within.encode()):
            parsed.clear()
            parse_json(text)
            assert parsed == [len(within)], "the control: what is allowed is parsed"
        for text in (beyond, beyond.encode()):
            parsed.clear()
            with pytest.raises(CodecError, match="holds more than 250,000 values"):
                codec("Thing").decode(text)
            assert parsed == []


def test_what_takes_long_is_read_as_everything_else_is() -> None:
    """The control: both ways to read a text are taken."""
    one = '{"id": "a", "tags": ["b"], "n": 5}'
    for count in (200, 3000):
        text = '{"data": [' + ",".join([one] * count) + '], "total": 1}'
        assert takes_long(text) is takes_long(text.encode()) is (count == 3000)
        assert codec("Page").decode(text) == Decoded(make("Page", 'data {id: "a" tags: "b" n: 5}' * count + "total: 1"))
        assert codec("Page").decode(text[:-1] + ', "x": 1e0}').message.total == 1
        assert codec("Page").decode(text[:-1] + f', "x": {DIGITS}}}').message.total == 1
        assert codec("Page").decode(text[:-1] + f', "x": {DEEP}}}').message.total == 1
        assert codec("Page").decode(text.replace('"n": 5', '"n": "5"')).repairs == count
        with pytest.raises(CodecError, match="is not JSON"):
            codec("Page").decode(text[:-1])
    text = '{"raws": [' + ",".join(["1", "null"] * 3000) + '], "leaves": [' + ",".join(["{}"] * 3000) + "]}"
    assert len(codec("Thing").decode(text).message.raws) == 6000
    assert codec("Thing").decode('{"leaves": [' + ",".join(['{"id": "x"}'] * 300) + "]}").message.leaves[299].id == "x"


# Whatever a contract allows means the same, written as PHP, Rails or Node write it.


def dumps(value: Any) -> str:
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    return "[" + ",".join(map(dumps, value)) + "]" if isinstance(value, list) else json.dumps(value)


class Scribe:
    """Writes JSON that follows a contract in ways that do not, and mean the same."""

    def __init__(self, seed: int, field_names: bool) -> None:
        self._random = Random(seed)
        self.field_names = field_names

    def one_of(self, *ways: Any) -> Any:
        return self._random.choice(ways)

    def object(self, value: dict[str, Any], descriptor: Descriptor) -> Any:
        fields = {wire_name(field, self.field_names): field for field in descriptor.fields}
        written = {name: self.field(item, fields[name]) if name in fields else item for name, item in value.items()}
        for name, field in fields.items():
            silent = name not in written and not field.GetOptions().Extensions[options.sink]
            if silent and not _is_text(field) and not _is_page(field):
                written |= self.one_of({}, {name: None}, {name: ""})
        return written

    def field(self, value: Any, field: FieldDescriptor) -> Any:
        if not field.is_repeated:
            return self.value(value, field)
        if is_map(field):
            inner = field.message_type.fields_by_name["value"]
            return {**{key: self.value(item, inner) for key, item in value.items()}, **self.one_of({}, {"-": None})}
        items = [self.value(item, field) for item in value]
        gaps = {str(2 * position): item for position, item in enumerate(items)}
        null_counts = _is_page(field) or _is_any(field)
        return self.one_of(items, gaps if items else items, items if null_counts else [*items, None])

    def value(self, value: Any, field: FieldDescriptor) -> Any:
        message = field.message_type
        if value is None:
            return None if _is_text(field) else self.one_of(None, "")
        if message is None:
            return self.scalar(value, field.cpp_type)
        if message.full_name == "google.type.Decimal":
            return self.one_of(value, str(value))
        if message.full_name.startswith("google.protobuf."):
            return self.one_of(value, []) if value == {} else value
        required = any(
            behavior.REQUIRED in each.GetOptions().Extensions[behavior.field_behavior] for each in message.fields
        )
        if value == {} and not required and not _is_page(field):
            return self.one_of({}, []) if not _required(field) else {}
        return self.object(value, message)

    def scalar(self, value: Any, kind: int) -> Any:
        text = str(value)
        if type(value) is bool:
            return self.one_of(value, int(value), str(int(value)), text, text.lower())
        if type(value) is int and kind != FieldDescriptor.CPPTYPE_DOUBLE:
            return self.one_of(value, text, f"{text}.0", Number(f"{text}.0"), Number(f"{text}e0"), f" {text} ")
        return self.one_of(value, text) if kind == FieldDescriptor.CPPTYPE_DOUBLE else value


def _is_text(field: FieldDescriptor) -> bool:
    """Whether "" is one of its values."""
    return not field.is_repeated and (field.cpp_type == FieldDescriptor.CPPTYPE_STRING or _is_any(field))


def _is_any(field: FieldDescriptor) -> bool:
    return bool(field.message_type) and field.message_type.full_name == "google.protobuf.Value"


def _is_page(field: FieldDescriptor) -> bool:
    return bool(field.GetOptions().Extensions[options.items])


def _required(field: FieldDescriptor) -> bool:
    return behavior.REQUIRED in field.GetOptions().Extensions[behavior.field_behavior]


ANSWERS = {
    "company": (company_pb2.CompanyDocument, True),
    "companies": (company_pb2.CompanyListDocument, True),
    "locations": (location_pb2.ListLocationsResponse, False),
    "charge points": (charge_point_pb2.ListChargePointsResponse, False),
    "evses": (evse_pb2.ListEvsesResponse, False),
    "tariff": (tariff_pb2.GetTariffResponse, False),
}


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**32), mark=st.sampled_from(["", "\ufeff"]))
def test_an_untidy_answer_is_the_message_that_the_tidy_one_is(
    name: str, data: st.DataObject, seed: int, mark: str
) -> None:
    type_, field_names = ANSWERS[name]
    lenient, strict = (
        compile_codec(type_.DESCRIPTOR, field_names=field_names, lenient=how)  # type: ignore[attr-defined]
        for how in (True, False)
    )
    message = data.draw(filled(type_))
    if name in ("company", "tariff"):
        message.data.SetInParent()
    tidy = strict.encode(message)
    expected = strict.decode(tidy)
    untidy = mark + dumps(Scribe(seed, field_names).object(parse_json(tidy), type_.DESCRIPTOR))
    decoded = lenient.decode(untidy)
    assert (decoded.message, decoded.rejects) == (expected.message, ())
    assert lenient.decode(tidy) == expected, "nothing of what is tidy is counted"


def test_the_untidy_answers_of_the_property_are_not_what_the_contract_says() -> None:
    """The control: a strict codec reads hardly any of them."""
    response = location_pb2.GetLocationResponse
    names = '[{"locale":"en","translation":"Yard"}]'
    tidy = f'{{"data":{{"id":7,"name":{names},"geoposition":{{"latitude":52.5}},"externalAppData":{{}}}}}}'
    lenient, strict = (compile_codec(response.DESCRIPTOR, field_names=False, lenient=how) for how in (True, False))
    expected, refused, repairs = strict.decode(tidy).message, 0, 0
    for seed in range(100):
        untidy = dumps(Scribe(seed, False).object(parse_json(tidy), response.DESCRIPTOR))
        decoded = lenient.decode(untidy)
        assert decoded.message == expected
        repairs += decoded.repairs
        try:
            strict.decode(untidy)
        except CodecError:
            refused += 1
    assert refused > 90
    assert repairs > 500


@given(st.binary(max_size=60) | st.text(max_size=60))
def test_whatever_a_partner_sends_is_a_message_or_a_codec_error(body: bytes | str) -> None:
    for name in ("Thing", "Kept", "Page"):
        try:
            codec(name).decode(body)
        except CodecError:
            continue
