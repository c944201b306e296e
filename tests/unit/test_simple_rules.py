"""What `simple_rules` says is what protovalidate says, for messages of every type that it knows."""

from collections import Counter
from typing import Any

import protovalidate
from evbridge.v1.location_pb2 import ReportEvseStatusRequest
from evbridge.v1.pricing_pb2 import CDR_DIMENSION_TYPE_TIME, ChargingPeriod
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain import simple_rules
from tests.contracts import every_message

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
]
VALIDATOR = protovalidate.Validator()
KNOWN = [each for each in every_message() if simple_rules._fields(each)]  # None of these is without any rule.


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
        return draw(st.sampled_from(TEXTS))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"a"
    numbers = [0, 1, 7] if "uint" in str(field.type) or field.cpp_type in (3, 4) else [-1, 0, 1, 7]
    return draw(st.sampled_from([True, False] if field.type == FieldDescriptor.TYPE_BOOL else numbers))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Message, Message]:
    descriptor = draw(st.sampled_from(KNOWN))
    return message(draw, descriptor, 3), message(draw, descriptor, 3)


@given(pairs())
@settings(max_examples=300)
def test_both_say_the_same(two: tuple[Message, Message]) -> None:
    theirs = [not VALIDATOR.collect_violations(each, fail_fast=True) for each in two]
    assert [simple_rules.hold([each]) for each in two] == theirs
    assert simple_rules.hold(two) == all(theirs)


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
