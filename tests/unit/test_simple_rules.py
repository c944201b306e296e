"""What `simple_rules` says is what protovalidate says, for messages of every type that it knows whole."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import protovalidate
import pytest
from buf.validate import validate_pb2
from evbridge.options.v1.rules_pb2 import web_address
from evbridge.v1.location_pb2 import Connector, Evse, Hours, Location, Parking, RegularHours, ReportEvseStatusRequest
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_TIME, ChargingPeriod
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain import simple_rules
from tests.contracts import every_message
from tests.front_door import a_connector, a_location

UUID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
TEXTS = [
    *("", "DE", "de", "DE\n", "\nDE", "D3", "ABC", "aB3", "ABCD", "hub-1", "hub-", "Hub", "a" * 36, "a" * 37, "a" * 64),
    *(
        UUID,
        UUID.upper(),
        UUID + "\n",
        UUID[:-1],
        "a b",
        " ",
        "a\tb",
        "é" * 36,
        "𝄞" * 36,
        "~",
        "\x7f",
        "a\nb",
        "a" * 256,
    ),
    *("a/../b", "..", "a\\.", "a..b"),
]
URLS = [
    *("http://a", "HTTPS://a.example:8443/b?c=d#e", "https://a.example/%7Ea;b=(c)", "https://a?b", "http://a/b/"),
    *(
        "ftp://a",
        "http://",
        "https:///a",
        "https://a b",
        "https://a/%7",
        "https://a/ä",
        "https://a/#b#c",
        "https://a/\n",
    ),
    *("https://a:port/", "https://[::1]/", "https://user@a/", "https://ä.example", "http://a" + "b" * 250),
]
VALIDATOR = protovalidate.Validator()
KNOWN = [each for each in every_message() if simple_rules.are_all(each)]


def message(draw: st.DrawFn, descriptor: Descriptor, depth: int) -> Message:
    made = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        around = field.containing_oneof
        if around is not None and made.WhichOneof(around.name):
            continue
        if field.is_repeated:
            if not (field.message_type and (depth == 0 or field.message_type.GetOptions().map_entry)):
                values = [value(draw, field, depth) for _ in range(draw(st.sampled_from([0, 1, 1, 2])))]
                getattr(made, field.name).extend(values)
        elif field.message_type is not None:
            if depth and draw(st.sampled_from([True, True, False])):
                getattr(made, field.name).CopyFrom(value(draw, field, depth))
        elif draw(st.sampled_from([True, True, False])):
            setattr(made, field.name, value(draw, field, depth))
    return made


def value(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return message(draw, field.message_type, depth - 1)
    if field.enum_type is not None:
        return draw(st.sampled_from([0, 1, 2, 7, 99]))
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw(st.sampled_from(TEXTS + URLS if _is_url(field) else TEXTS))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"a"
    numbers = [0, 1, 7] if "uint" in str(field.type) or field.cpp_type in (3, 4) else [-1, 0, 1, 7, 100_001]
    return draw(st.sampled_from([True, False] if field.type == FieldDescriptor.TYPE_BOOL else numbers))


def _is_url(field: FieldDescriptor) -> bool:
    return field.GetOptions().Extensions[validate_pb2.field].string.Extensions[web_address]


@st.composite
def pairs(draw: st.DrawFn, descriptors: list[Descriptor]) -> tuple[Message, Message]:
    descriptor = draw(st.sampled_from(descriptors))
    return message(draw, descriptor, 3), message(draw, descriptor, 3)


@given(pairs([each for each in KNOWN if not any(map(_is_url, each.fields))]))
@settings(max_examples=300)
def test_both_say_the_same(two: tuple[Message, Message]) -> None:
    theirs = [not VALIDATOR.collect_violations(each, fail_fast=True) for each in two]
    assert [simple_rules.hold([each]) for each in two] == theirs
    assert simple_rules.hold(two) == all(theirs)


@given(pairs([*every_message()]) | pairs([Location.DESCRIPTOR, Evse.DESCRIPTOR, Connector.DESCRIPTOR]))
@settings(max_examples=300)
def test_what_holds_here_holds_there(two: tuple[Message, Message]) -> None:
    theirs = [not VALIDATOR.collect_violations(each, fail_fast=True) for each in two]
    assert all(there for each, there in zip(two, theirs, strict=True) if simple_rules.hold([each]))
    assert all(theirs) or not simple_rules.hold(two)


@pytest.mark.parametrize("url", URLS)
def test_most_addresses_are_known(url: str) -> None:
    connector = a_connector(terms_and_conditions=url)
    said, theirs = simple_rules.hold([connector]), not VALIDATOR.collect_violations(connector)
    assert said == theirs or (theirs and url.startswith(("https://[", "https://user")))


WRONG: dict[str, Callable[[Location], object]] = {
    "two EVSEs of one uid": lambda it: it.evses.append(it.evses[0]),
    "two connectors of one id": lambda it: it.evses[0].connectors.append(it.evses[0].connectors[0]),
    "a uid that no URL can hold": lambda it: setattr(it.evses[0], "uid", "a/.."),
    "a tariff twice": lambda it: it.evses[0].connectors[0].tariff_ids.extend(["T1", "T1"]),
    "too high a voltage": lambda it: setattr(it.evses[0].connectors[0], "max_voltage", 100_001),
    "shown to some and to all": lambda it: it.publish_allowed_to.add(group_id="G"),
    "hours of a day that never closes": lambda it: it.opening_times.MergeFrom(
        Hours(twentyfourseven=True, regular_hours=[RegularHours(weekday=1, period_begin="08:00", period_end="09:00")])
    ),
    "no hours": lambda it: it.opening_times.SetInParent(),
    "two parking places of one id": lambda it: it.parking_places.extend([Parking(id="P"), Parking(id="P")]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_location_is_known_but_for_what_it_seldom_has(wrong: Callable[[Location], object]) -> None:
    location = a_location()
    assert simple_rules.hold([location])
    wrong(location)
    assert VALIDATOR.collect_violations(location)
    assert not simple_rules.hold([location])


def test_a_wrong_text_in_a_message_is_found() -> None:
    found: Counter[bool] = Counter()
    for descriptor in KNOWN:
        for field in descriptor.fields:
            if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
                wrong: Any = GetMessageClass(descriptor)()
                setattr(wrong, field.name, "ü" * 3000)
                said = simple_rules.hold([wrong])
                assert said == (not VALIDATOR.collect_violations(wrong)), field.full_name
                found[said] += 1
    assert found[False] > 100


def test_reports_of_a_thousand_evses_are_known() -> None:
    assert ReportEvseStatusRequest.DESCRIPTOR in KNOWN


def test_a_rule_that_is_no_pattern_is_left_to_protovalidate() -> None:
    left = {each.full_name for each in every_message()} - {each.full_name for each in KNOWN}
    assert {"evbridge.v1.CreateCdrRequest", "evbridge.v1.CreateLocationRequest"} <= left


def test_a_rule_of_a_whole_list_is_left_to_protovalidate() -> None:
    period = ChargingPeriod()
    period.start_date_time.GetCurrentTime()
    for _ in range(2):
        period.dimensions.add(type=CDR_DIMENSION_TYPE_TIME).volume.value = "1"
    (violation,) = VALIDATOR.collect_violations(period)
    assert violation.proto.rule_id == "charging_period.types"
    assert not simple_rules.hold([period])
