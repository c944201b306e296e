"""The rules of our own contracts: each has words, and none shows a regular expression."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from buf.validate import validate_pb2
from evbridge.options.v1 import options_pb2 as options
from evbridge.options.v1 import rules_pb2
from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from evbridge.v1 import charger_pb2, company_pb2, location_pb2, publication_pb2, tariff_pb2, types_pb2
from google.api import field_behavior_pb2 as behavior
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal
from hypothesis import given
from hypothesis import strategies as st

from service.domain.keys import stored_ids
from service.domain.rules import NO_TIME, broken, clamp_times, decimal_words
from service.domain.time_zones import time_zone, time_zones
from service.domain.validation import violations
from tests.contracts import every_message

SIGNS_OF_A_PATTERN = ("^", "\\", "[", "]", "$", "regex", "pattern", "{1,")
FIELDS = [field for message in every_message() for field in message.fields]


def rules_of(field: FieldDescriptor) -> Iterator[Any]:
    """The rules of the field and of its items, keys and values."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    yield from (rules, rules.repeated.items, rules.map.keys, rules.map.values)


def words_of(rule: Any) -> str:
    """What a rule in CEL says: its message, or the texts in its expression."""
    without_patterns = re.sub(r"matches\('[^']*'\)", "", rule.expression)
    return str(rule.message or "".join(without_patterns.split("'")[1::2]))


def test_no_field_has_a_pattern_without_words() -> None:
    bare = [
        field.full_name
        for field in FIELDS
        for rules in rules_of(field)
        if rules.string.pattern or rules.bytes.pattern or rules.string.uri or rules.string.uuid
    ]
    assert len(FIELDS) > 1000
    assert bare == []


def test_every_rule_says_what_is_wanted_and_shows_no_pattern() -> None:
    of_messages = [
        rule for message in every_message() for rule in message.GetOptions().Extensions[validate_pb2.message].cel
    ]
    of_fields = [rule for field in FIELDS for rules in rules_of(field) for rule in rules.cel]
    named = [
        rule
        for extension in rules_pb2.DESCRIPTOR.extensions_by_name.values()
        for rule in extension.GetOptions().Extensions[validate_pb2.predefined].cel
    ]
    assert len(named) > 20
    for rule in (*of_messages, *of_fields, *named):
        assert len(words_of(rule)) > 10, rule.id
        # "{emabler_integration_id}" stands in a path.
        assert not [sign for sign in SIGNS_OF_A_PATTERN if sign in words_of(rule)], rule.id


def test_every_decimal_that_callers_set_has_limits() -> None:
    decimals = [
        field for field in FIELDS if field.message_type and field.message_type.full_name == "google.type.Decimal"
    ]
    ours = [field for field in decimals if field.file.package == "evbridge.v1" and is_set_by_callers(field)]
    assert len(ours) > 20
    assert [field.full_name for field in ours if not field.GetOptions().HasExtension(options.decimal)] == []


def is_set_by_callers(field: FieldDescriptor) -> bool:
    """Not what is output only, nor what stands in messages of answers alone."""
    return behavior.OUTPUT_ONLY not in field.GetOptions().Extensions[behavior.field_behavior] and (
        field.containing_type.full_name in asked_for()
    )


def asked_for() -> set[str]:
    """The messages that can stand in a request."""
    found: set[str] = set()
    pending = [message for message in every_message() if message.name.endswith("Request")]
    while pending:
        message = pending.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            pending += [
                field.message_type
                for field in message.fields
                if field.message_type
                and behavior.OUTPUT_ONLY not in field.GetOptions().Extensions[behavior.field_behavior]
            ]
    return found


def rule(**limits: Any) -> options.DecimalRule:
    return options.DecimalRule(**limits)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (rule(whole_digits=9), "must be a decimal number with up to 9 digits before the point and up to 12 after it"),
        (rule(whole_digits=3, sign=1, highest=100), "must be a decimal number from 0 to 100 with up to 12 digits"),
        (rule(whole_digits=12, sign=1), "must be a decimal number, 0 or above, with up to 12 digits before the point"),
    ],
)
def test_a_decimal_names_its_limits(limits: options.DecimalRule, words: str) -> None:
    assert decimal_words(limits).startswith(words)


@pytest.mark.parametrize("value", ["101", "100.01", "-1", "1e2", "", ".5", "5.", " 5", "5\n", "1" * 4_000_000, "٣"])
def test_a_percentage_that_is_none_is_refused(value: str) -> None:
    component = tariff_pb2.PriceComponent(vat=Decimal(value=value))
    assert [each.path for each in broken(component)] == ["vat"]


@pytest.mark.parametrize("value", ["0", "100", "100.000", "007", "19.123456789012"])
def test_a_percentage_is_taken(value: str) -> None:
    assert [*broken(tariff_pb2.PriceComponent(vat=Decimal(value=value)))] == []


TIMES = st.builds(
    Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)
) | st.builds(
    Timestamp, seconds=st.integers(-62135596801, 253402300800), nanos=st.sampled_from([-1, 0, 999_999_999, 10**9])
)


@given(TIMES)
def test_what_can_be_printed_is_a_time_and_nothing_else_is(time: Timestamp) -> None:
    tariff = tariff_pb2.Tariff(start_date_time=time)
    try:
        time.ToJsonString()
    except ValueError:
        assert [(each.path, each.description) for each in broken(tariff)] == [("start_date_time", NO_TIME)]
        assert violations(tariff), "such a time stops no validation"
        assert clamp_times(tariff)
        tariff.start_date_time.ToJsonString()
    else:
        assert [*broken(tariff)] == []
        assert not clamp_times(tariff)


@pytest.mark.parametrize("character", ["\0", "\x01", "\b", "\r", "\x1b", "\x1f", "\x7f"])
def test_a_control_character_is_found_wherever_it_stands(character: str) -> None:
    text = f"a{character}b"
    location = location_pb2.Location(name=text, related_locations=[location_pb2.AdditionalGeoLocation()])
    location.related_locations[0].name.text = text
    location.evses.add().connectors.add(tariff_ids=["fine", text])
    assert [each.path for each in broken(location, "location.")] == [
        "location.name",
        "location.related_locations[0].name.text",
        "location.evses[0].connectors[0].tariff_ids[1]",
    ]


def test_tab_and_line_feed_are_text() -> None:
    assert [*broken(location_pb2.Location(address="a\tb\nc é \u202e"))] == []


def test_every_text_is_looked_at() -> None:
    """Those of a message are looked at together, so that one more is not forgotten."""
    texts = [each for each in FIELDS if each.type == FieldDescriptor.TYPE_STRING and not each.is_repeated]
    assert len(texts) > 300
    for field in texts:
        message = message_factory.GetMessageClass(field.containing_type)(**{field.name: "a\x00b"})
        assert [each.path for each in broken(message)] == [field.name]


def test_the_lines_of_a_partners_text_end_as_it_likes() -> None:
    request = chargeprice.UpsertCompanyRequest(document={"data": {"attributes": {"name": "a\r\nb"}}})
    assert [*broken(request)] == []
    request.document.data.attributes.name = "a\0"
    assert [each.path for each in broken(request)] == ["document.data.attributes.name"]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("DE*ABC*Loc-1", "DEABCloc-1"),
        ("de*abc*LOC-1", "DEABCloc-1"),
        ("DEABCLoc-1", "DEABCloc-1"),
        ("DE*ABC*Loc-1/E1", "DEABCloc-1/e1"),
        ("de*abc", "DE*ABC"),
        ("CP-1", "cp-1"),
        ("1E49B853-36FC-47ED-9826-97828B5B2FDD", "1e49b853-36fc-47ed-9826-97828b5b2fdd"),
    ],
)
def test_an_object_is_found_by_what_people_call_it(text: str, stored: str) -> None:
    assert stored in stored_ids(text)
    assert stored in stored_ids(stored)


def test_zones_are_those_of_the_package_and_no_file_of_the_machine() -> None:
    assert {"Europe/Oslo", "UTC", "America/Argentina/Buenos_Aires"} <= time_zones()
    assert not {"localtime", "posixrules", "posix/Europe/Oslo", "right/Europe/Oslo", ""} & time_zones()
    for name in time_zones():
        assert datetime(2030, 1, 1, tzinfo=time_zone(name)).astimezone(UTC).year in (2029, 2030)


def test_the_lists_of_codes_say_what_they_want() -> None:
    location = location_pb2.Location(country="DEX", time_zone="localtime")
    assert {each.path: each.description for each in broken(location)} == {
        "country": "must be a country code of three upper-case letters (ISO 3166-1 alpha-3), such as DEU",
        "time_zone": "must be the name of a time zone of the IANA database, such as Europe/Oslo",
    }
    assert {each.path for each in broken(tariff_pb2.Tariff(currency="EUX"))} == {"currency"}
    for kept in ("HRK", "BGN", "EUR"):
        assert not [*broken(tariff_pb2.Tariff(currency=kept))]


def test_the_messages_are_those_of_every_contract() -> None:
    names = {message.full_name for message in every_message()}
    for one in (charger_pb2.Charger, company_pb2.Company, publication_pb2.PublicationRule, types_pb2.Image):
        assert one.DESCRIPTOR.full_name in names
    assert isinstance(every_message()[0], Descriptor)
