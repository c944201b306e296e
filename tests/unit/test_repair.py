"""What a partner sent untidily becomes an object that the contract takes, or is refused with a reason."""

from typing import Any

import pytest
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.location_pb2 import AdditionalGeoLocation, Evse, Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.message import Message
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from service.domain import repair
from service.domain.geography import decimal_degrees
from service.domain.repair import repaired
from service.domain.validation import validate, violations
from service.errors import InvalidArgument

LOCATION = """
    country_code: "DE" party_id: "ABC" id: "L1" publish: true name: "Town hall" address: "Platz 1" city: "Berlin"
    postal_code: "10117" state: "Berlin" country: "DEU" time_zone: "Europe/Berlin"
    coordinates { latitude: "52.520008" longitude: "13.404954" }
    related_locations { latitude: "52.52000" longitude: "13.40000" name { language: "de" text: "Einfahrt" } }
    related_locations { latitude: "52.52001" longitude: "13.40001" name { language: "de" text: "Ausfahrt" } }
    directions { language: "de" text: "Im Hof" } directions { language: "en" text: "In the court" }
    operator { name: "Wattwerk" website: "https://wattwerk.example" }
    facilities: FACILITY_WIFI facilities: FACILITY_CAFE
    opening_times {
      twentyfourseven: false
      regular_hours { weekday: 1 period_begin: "08:00" period_end: "20:00" }
      regular_hours { weekday: 2 period_begin: "08:00" period_end: "20:00" }
      exceptional_closings { period_begin { seconds: 1000 } period_end { seconds: 2000 } }
    }
    images { url: "https://wattwerk.example/1.png" type: "png" category: IMAGE_CATEGORY_LOCATION }
    images { url: "https://wattwerk.example/2.png" type: "png" category: IMAGE_CATEGORY_OTHER }
    energy_mix {
      is_green_energy: true supplier_name: "Sonne"
      energy_sources { source: ENERGY_SOURCE_CATEGORY_SOLAR percentage { value: "60" } }
      energy_sources { source: ENERGY_SOURCE_CATEGORY_WIND percentage { value: "40" } }
    }
    evses { %(evse)s }
"""
EVSE = """
    uid: "21" evse_id: "DE*ABC*E21" status: EVSE_STATUS_AVAILABLE physical_reference: "A1" floor_level: "-1"
    capabilities: CAPABILITY_RFID_READER
    coordinates { latitude: "52.520008" longitude: "13.404954" }
    status_schedule { period_begin { seconds: 1000 } status: EVSE_STATUS_PLANNED }
    connectors {
      id: "1" standard: CONNECTOR_TYPE_IEC_62196_T2 format: CONNECTOR_FORMAT_SOCKET power_type: POWER_TYPE_AC_3_PHASE
      max_voltage: 230 max_amperage: 32 tariff_ids: "T1"
    }
    connectors {
      id: "2" standard: CONNECTOR_TYPE_CHADEMO format: CONNECTOR_FORMAT_CABLE power_type: POWER_TYPE_DC
      max_voltage: 400 max_amperage: 125 terms_and_conditions: "https://wattwerk.example/terms"
    }
"""
TARIFF = """
    country_code: "DE" party_id: "ABC" id: "T1" currency: "EUR" name: "AC" tariff_alt_url: "https://wattwerk.example"
    tariff_alt_text { language: "de" text: "je kWh" } tariff_alt_text { language: "en" text: "per kWh" }
    min_price { excl_vat { value: "1" } } start_date_time { seconds: 1000 } end_date_time { seconds: 2000 }
    elements {
      price_components { type: TARIFF_DIMENSION_TYPE_ENERGY price { value: "0.35" } vat { value: "19" } step_size: 1 }
      restrictions { start_time: "08:00" end_time: "20:00" day_of_week: DAY_OF_WEEK_MONDAY }
    }
    elements { price_components { type: TARIFF_DIMENSION_TYPE_TIME price { value: "2" } step_size: 60 } }
"""
CHARGER = """
    id: "C1" name: "North" site_id: "4711"
    sockets {
      id: "1" standard: CONNECTOR_TYPE_IEC_62196_T2 format: CONNECTOR_FORMAT_SOCKET power_type: POWER_TYPE_AC_3_PHASE
      max_voltage: 230 max_amperage: 32
    }
    sockets {
      id: "2" standard: CONNECTOR_TYPE_CHADEMO format: CONNECTOR_FORMAT_CABLE power_type: POWER_TYPE_DC
      max_voltage: 400 max_amperage: 125
    }
"""


def location(**changes: str) -> Location:
    return changed(Parse(LOCATION % {"evse": EVSE}, Location()), changes)


def evse(**changes: str) -> Evse:
    return changed(Parse(EVSE, Evse()), changes)


def tariff(**changes: str) -> Tariff:
    return changed(Parse(TARIFF, Tariff()), changes)


def changed(message: Any, changes: dict[str, str]) -> Any:
    """With the fields, in protobuf's text, in the place of what they were."""
    for name, text in changes.items():
        message.ClearField(name)
        message.MergeFrom(Parse(text, type(message)()))
    return message


def outcome(given: Message, path: str) -> str:
    """What stands at the path afterwards, as text."""
    made: Any
    made, notices = repaired(given)
    assert notices, "nothing was repaired"
    for name in path.replace("]", "").replace("[", ".").split("."):
        made = made[int(name)] if name.isdecimal() else getattr(made, name)
    return str([*made] if hasattr(made, "append") else made)


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        (location(postal_code='postal_code: "10117 Berlin M"'), "postal_code", ""),
        (location(city=f'city: "{"B" * 46}"'), "city", "B" * 45),
        (location(name=f'name: "{"N" * 256}"'), "name", "N" * 255),
        (location(name='name: "Town\\000 \\033[31mhall"'), "name", "Town [31mhall"),
        (location(country='country: "de"'), "country", "DEU"),
        (location(country='country: "deu"'), "country", "DEU"),
        (location(country='country: "XK"'), "country", "XKX"),
        (location(facilities="facilities: 20 facilities: 3 facilities: 20"), "facilities", "[20, 3]"),
        (location(facilities="facilities: 20 facilities: 99 facilities: 0"), "facilities", "[20]"),
        (location(facilities="facilities: 20 facilities: 99 facilities: 99"), "facilities", "[20]"),
        (location(parking_type="parking_type: 77"), "parking_type", "0"),
        (
            location(coordinates='coordinates { latitude: "48.8857" longitude: "8.66512345678901" }'),
            "coordinates.latitude",
            "48.88570",
        ),
        (
            location(coordinates='coordinates { latitude: "48,8857001" longitude: "8.66512345678901" }'),
            "coordinates.longitude",
            "8.6651235",
        ),
        (location(directions='directions { language: "de_AT" text: "Hof" }'), "directions[0].language", "de"),
        (location(directions=f'directions {{ language: "de" text: "{"H" * 600}" }}'), "directions[0].text", "H" * 512),
        (
            location(images='images { url: "https://x.example/a b/ä.png" type: "png" category: 3 }'),
            "images[0].url",
            "https://x.example/a%20b/%C3%A4.png",
        ),
        (location(images='images { url: "a b" type: "png" category: 3 }'), "images", "[]"),
        (location(operator='operator { name: "W" website: "no URL" }'), "operator.website", ""),
        (location(operator=f'operator {{ name: "{"W" * 101}" }}'), "operator.name", "W" * 100),
        (location(owner='owner { website: "https://x.example" }'), "owner.name", ""),
        (location(publish_allowed_to='publish_allowed_to { uid: "1" type: 4 }'), "publish_allowed_to", "[]"),
        (
            location(energy_mix='energy_mix { energy_product_name: "Strom" }'),
            "energy_mix.energy_product_name",
            "",
        ),
        (evse(physical_reference='physical_reference: "Charger North-East"'), "physical_reference", "Charger North-Ea"),
        (evse(floor_level='floor_level: "Ground"'), "floor_level", ""),
        (evse(evse_id='evse_id: "É"'), "evse_id", ""),
        (evse(coordinates='coordinates { latitude: "91" longitude: "1" }'), "coordinates.latitude", ""),
        (evse(status_schedule="status_schedule { status: EVSE_STATUS_PLANNED }"), "status_schedule", "[]"),
        (tariff(name=f'name: "{"N" * 256}"'), "name", "N" * 255),
        (tariff(tariff_alt_url='tariff_alt_url: "wattwerk"'), "tariff_alt_url", ""),
        (tariff(currency='currency: "eur"'), "currency", "EUR"),
    ],
)
def test_an_optional_field_never_costs_the_object(given: Message, path: str, value: str) -> None:
    assert outcome(given, path) == value


def hours(text: str) -> Location:
    return location(opening_times=f"opening_times {{ {text} }}")


@pytest.mark.parametrize(
    ("given", "begin", "end"),
    [
        ('period_begin: "8:00" period_end: "20:00"', "08:00", "20:00"),
        ('period_begin: "08:00:00" period_end: "23:59:59"', "08:00", "23:59"),
        ('period_begin: " 8:05" period_end: "24:00"', "08:05", "24:00"),
    ],
)
def test_hours_are_padded(given: str, begin: str, end: str) -> None:
    made, _ = repaired(hours(f"twentyfourseven: false regular_hours {{ weekday: 1 {given} }}"))
    (period,) = made.opening_times.regular_hours
    assert (period.period_begin, period.period_end) == (begin, end)


def test_one_day_that_is_unreadable_costs_the_opening_times() -> None:
    day = 'regular_hours { weekday: %s period_begin: "%s" period_end: "20:00" }'
    made, notices = repaired(hours(f"twentyfourseven: false {day % (1, '08:00')} {day % (2, 'morning')}"))
    assert not made.HasField("opening_times")
    assert [notice.path for notice in notices] == ["opening_times.regular_hours[1].period_begin"]
    assert notices[0].description.endswith(": opening_times is left out")


def test_hours_of_a_place_that_is_always_open_are_left_out() -> None:
    day = 'regular_hours { weekday: 1 period_begin: "08:00" period_end: "20:00" }'
    made, notices = repaired(hours(f"twentyfourseven: true {day}"))
    assert made.opening_times.twentyfourseven
    assert not made.opening_times.regular_hours
    assert [notice.path for notice in notices] == ["opening_times.regular_hours"]


def test_a_plug_that_ocpi_does_not_know_costs_its_connector_alone() -> None:
    given = evse()
    given.connectors[0].standard = 0
    made, (notice,) = repaired(given)
    assert [connector.id for connector in made.connectors] == ["2"]
    assert notice.path == "connectors[0].standard"
    assert notice.description.endswith(": connectors[0] is left out")


def test_an_evse_without_a_usable_connector_is_refused_with_the_reason() -> None:
    given = evse()
    for connector in given.connectors:
        connector.power_type = 0
    with pytest.raises(InvalidArgument) as refused:
        repaired(given)
    paths = {violation.path for violation in refused.value.violations}
    assert paths == {"connectors", "connectors[0].power_type", "connectors[1].power_type"}


def test_notices_name_places_in_the_object_as_it_was_received() -> None:
    image = 'images { url: "%s" type: "png" category: 3 thumbnail: "%s" }'
    given = location(images=" ".join(image % each for each in (("", ""), ("", ""), ("https://x.example/", "t"))))
    given.facilities[:] = [99, 20, 20]
    made, notices = repaired(given)
    assert len(made.images) == 1
    assert [*made.facilities] == [20]
    paths = [notice.path for notice in notices]
    assert {"images[0].url", "images[1].url", "images[2].thumbnail", "facilities[0]", "facilities"} == set(paths)


@pytest.mark.parametrize(
    ("type", "text", "listed"),
    [(Evse, EVSE, "connectors"), (Charger, CHARGER, "sockets")],
)
def test_of_two_with_the_same_id_the_last_one_counts(type: Any, text: str, listed: str) -> None:
    given = Parse(text, type())
    getattr(given, listed)[1].id = "1"
    made, (notice,) = repaired(given)
    (left,) = getattr(made, listed)
    assert (left.max_voltage, notice.path) == (400, f"{listed}[0]")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (location(id='id: "\\001"'), "id"),
        (location(city=""), "city"),
        (location(country='country: "Germany"'), "country"),
        (location(time_zone='time_zone: "Middle_Earth/Shire"'), "time_zone"),
        (location(coordinates=""), "coordinates"),
        (location(coordinates='coordinates { latitude: "north" longitude: "1.00000" }'), "coordinates.latitude"),
        (location(publish=""), "publish"),
        (evse(status="status: 0"), "status"),
        (evse(uid='uid: "a\\000"'), "uid"),
        (tariff(elements=""), "elements"),
        (tariff(currency='currency: "Euro"'), "currency"),
        (tariff(type="type: 77"), "type"),
        (tariff(min_price='min_price { excl_vat { value: "x" } }'), "min_price.excl_vat"),
        (tariff(end_date_time="end_date_time { seconds: 1 }"), ""),
    ],
)
def test_what_makes_an_object_useless_refuses_it(given: Message, path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        repaired(given)
    assert path in [violation.path for violation in refused.value.violations]
    assert all(violation.description for violation in refused.value.violations)


@pytest.mark.parametrize(
    ("field", "text", "path"),
    [
        ("day_of_week", "day_of_week: 9", "restrictions.day_of_week[0]"),
        ("start_date", 'start_date: "tomorrow"', "restrictions.start_date"),
        ("start_time", 'start_time: "08:00:30"', "restrictions.start_time"),
        ("min_kwh", 'min_kwh { value: "some" }', "restrictions.min_kwh"),
        ("reservation", "reservation: 9", "restrictions.reservation"),
    ],
)
def test_nothing_that_changes_a_price_is_left_out(field: str, text: str, path: str) -> None:
    given = tariff()
    changed(given.elements[0].restrictions, {field: text})
    with pytest.raises(InvalidArgument) as refused:
        repaired(given)
    assert f"elements[0].{path}" in [violation.path for violation in refused.value.violations]


def test_a_restriction_that_only_needs_padding_is_padded() -> None:
    given = tariff()
    changed(given.elements[0].restrictions, {"start_time": 'start_time: "8:00"', "end_time": 'end_time: "20:00:00"'})
    made, notices = repaired(given)
    restrictions = made.elements[0].restrictions
    assert (restrictions.start_time, restrictions.end_time, len(notices)) == ("08:00", "20:00", 2)


def test_more_items_than_a_list_can_hold_are_left_out_but_for_prices() -> None:
    given = location()
    for number in range(101):
        given.images.add().CopyFrom(given.images[0])
        given.images[-1].url += f"?{number}"
    made, (notice,) = repaired(given)
    assert (len(made.images), notice.path) == (100, "images")
    crowded = location()
    for number in range(1100):
        crowded.evses.add().CopyFrom(crowded.evses[0])
        crowded.evses[-1].uid = str(number % 900)
    assert len(repaired(crowded)[0].evses) == 900
    priced = tariff()
    for _ in range(25):
        priced.elements[0].price_components.add().CopyFrom(priced.elements[0].price_components[0])
    with pytest.raises(InvalidArgument):
        repaired(priced)


def test_a_list_is_cut_before_its_items_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def counted(message: Message) -> Any:
        judged.append(len(message.SerializeToString()))
        return violations(message)

    monkeypatch.setattr(repair, "violations", counted)
    given = location()
    given.evses[0].capabilities.extend([given.evses[0].capabilities[0]] * 50_000)
    given.related_locations.extend([AdditionalGeoLocation(latitude="x")] * 20_000)
    made, notices = repaired(given)
    assert (len(made.evses[0].capabilities), len(made.related_locations)) == (1, 2)
    assert [each.path for each in notices][:2] == ["related_locations", "evses[0].capabilities"]
    assert max(judged) < 10_000 < len(given.SerializeToString())


@given(st.decimals(-180, 180, allow_nan=False), st.sampled_from(["", " "]))
def test_degrees_have_5_to_7_decimals_and_hardly_move(number: Any, space: str) -> None:
    text = decimal_degrees(f"{space}{number:f}")
    assert 5 <= len(text.partition(".")[2]) <= 7
    assert abs(float(text) - float(number)) <= 5.1e-8
    assert decimal_degrees(text) == text


@pytest.mark.parametrize("text", ["", "north", "NaN", "Infinity", "181", "1e999999", "5 2"])
def test_what_is_no_degree_is_left_alone(text: str) -> None:
    assert decimal_degrees(text) == text


# Anything

WHOLE = {Location: LOCATION % {"evse": EVSE}, Evse: EVSE, Tariff: TARIFF, Charger: CHARGER}
JUNK = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", " ", "8:00", "DE", "no URL", "\0", "https://x.example/a b", "9" * 300, "\u202e", "ä" * 600]),
)


def places(message: Any) -> list[tuple[Any, Any]]:
    """(message, field) of everything that is set in it, and of all that could be."""
    found = [(message, field) for field in message.DESCRIPTOR.fields]
    for field, value in message.ListFields():
        for inner in value if field.is_repeated else [value]:
            if isinstance(inner, Message):
                found += places(inner)
    return found


def spoil(message: Any, field: Any, data: st.DataObject) -> None:
    if field.message_type:
        if field.is_repeated and (items := getattr(message, field.name)):
            for _ in range(data.draw(st.sampled_from([1, 2, 120]))):
                items.append(items[0])
        else:
            message.ClearField(field.name)
            if not field.is_repeated:
                getattr(message, field.name).SetInParent()
        return
    junk: Any
    if field.enum_type:
        junk = st.integers(-1, 99)
    elif field.cpp_type == field.CPPTYPE_STRING:
        junk = JUNK
    elif field.cpp_type == field.CPPTYPE_BOOL:
        junk = st.booleans()
    else:
        junk = st.integers(-(2**31), 2**31 - 1)
    if field.is_repeated:
        getattr(message, field.name)[:] = data.draw(st.lists(junk, max_size=60))
    else:
        setattr(message, field.name, data.draw(junk))


@pytest.mark.parametrize("type", WHOLE, ids=lambda type: type.__name__)
@given(data=st.data())
def test_whatever_is_received_is_repaired_or_refused_with_a_reason(type: Any, data: st.DataObject) -> None:
    received = Parse(WHOLE[type], type())
    for _ in range(data.draw(st.integers(0, 4))):
        spoil(*data.draw(st.sampled_from(places(received))), data)
    before = received.SerializeToString(deterministic=True)
    try:
        made, notices = repaired(received)
    except InvalidArgument as refused:
        assert all(violation.description for violation in refused.violations)
        with pytest.raises(InvalidArgument):
            validate_whole(received)
        return
    finally:
        assert received.SerializeToString(deterministic=True) == before
    validate_whole(made)
    assert (made == received) == (not notices)
    assert repaired(made) == (made, ())
    if type is Tariff:
        assert made.elements == received.elements or any(notice.path.startswith("elements") for notice in notices)
        assert [len(each.price_components) for each in made.elements] == [
            len(each.price_components) for each in received.elements
        ]


def validate_whole(message: Any) -> None:
    """Raises InvalidArgument unless it is an object that could be stored."""
    validate(message)
    if isinstance(message, Location) and not message.id:
        raise InvalidArgument.field("id", "is required of what is received")
    if any(ord(character) < 32 and character not in "\t\n" for character in str_of(message)):
        raise InvalidArgument.field("", "control characters")


def str_of(message: Any) -> str:
    found = ""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if isinstance(each, Message):
                found += str_of(each)
            elif isinstance(each, str):
                found += each
    return found


@pytest.mark.parametrize(("type", "text"), WHOLE.items(), ids=[type.__name__ for type in WHOLE])
def test_an_object_that_is_valid_is_the_same_object_afterwards(type: Any, text: str) -> None:
    given = Parse(text, type())
    made, notices = repaired(given)
    assert made is given
    assert notices == ()
