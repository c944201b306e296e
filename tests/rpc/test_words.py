"""What a person reads who sends something wrong: what is wanted, and never a regular expression."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection
from evbridge.v1.company_pb2 import GetCompanyRequest
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_OCPI, CreateIntegrationRequest
from evbridge.v1.location_pb2 import (
    CreateLocationRequest,
    GeoLocation,
    GetLocationRequest,
    Location,
    LocationKey,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest, UpdatePublicationRuleRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest, ListTariffsRequest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from tests.conftest import Tenant
from tests.front_door import Client, a_location, a_party, a_rule, a_tariff, an_integration, fails

NO_TIME = Timestamp(seconds=-(1 << 40), nanos=-1)
TIME = "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z"
CONTROL = "must not hold control characters but tab and line feed"
IN_A_URL = "must not have . or .. alone between slashes: no URL can hold that"
LATITUDE = "must be a decimal from -90 to 90 with 5 to 7 digits after the point, such as 52.520008"


def create_location(**changes: Any) -> Callable[[Client], Awaitable[Any]]:
    return lambda client: client.locations.CreateLocation(CreateLocationRequest(location=a_location(**changes)))


def opened(*periods: tuple[int, str, str]) -> dict[str, Any]:
    hours = [{"weekday": day, "period_begin": begin, "period_end": end} for day, begin, end in periods]
    return {"twentyfourseven": False, "regular_hours": hours}


def create_tariff(change: Callable[[Any], Any]) -> Callable[[Client], Awaitable[Any]]:
    tariff = a_tariff()
    change(tariff)
    return lambda client: client.tariffs.CreateTariff(CreateTariffRequest(tariff=tariff))


def create_integration(**changes: Any) -> Callable[[Client], Awaitable[Any]]:
    request = CreateIntegrationRequest(integration=an_integration(**changes))
    return lambda client: client.integrations.CreateIntegration(request)


CALLS: dict[str, tuple[Callable[[Client], Awaitable[Any]], dict[str, str]]] = {
    "coordinates": (
        create_location(coordinates=GeoLocation(latitude="48.8857", longitude="2.12345")),
        {"location.coordinates.latitude": LATITUDE},
    ),
    "what is missing": (
        lambda client: client.locations.CreateLocation(CreateLocationRequest(location=Location(id="L1"))),
        {
            "location.country_code": "is required: it must be two letters, such as DE",
            "location.party_id": "is required: it must be three letters or digits, such as ABC",
            "location.publish": "is required",
            "location.address": "is required",
            "location.city": "is required",
            "location.country": "is required",
            "location.coordinates": "is required",
            "location.time_zone": "is required",
        },
    ),
    "a status that is missing": (
        create_location(evses=[{"uid": "E1"}]),
        {"location.evses[0].status": "is required", "location.evses[0].connectors": "is required"},
    ),
    "an id of spaces": (
        create_location(id="  "),
        {
            "location.id": (
                "must be 1 to 36 printable ASCII characters, without a space at its beginning or end, such as LOC-1"
            )
        },
    ),
    "ids that no URL can hold": (
        create_location(id="a/..", evses=[{"uid": "."}, {"uid": ".../a..\\"}]),
        {
            "location.id": IN_A_URL,
            "location.evses[0].uid": IN_A_URL,
            **{f"location.evses[{at}].{name}": "is required" for at in (0, 1) for name in ("status", "connectors")},
        },
    ),
    "a zone of the machine": (
        create_location(time_zone="localtime"),
        {"location.time_zone": "must be the name of a time zone of the IANA database, such as Europe/Oslo"},
    ),
    "a country that ISO does not know": (
        create_location(country="XYZ"),
        {"location.country": ("must be a country code of three upper-case letters (ISO 3166-1 alpha-3), such as DEU")},
    ),
    "a website that is none": (
        create_location(operator={"name": "Wattwerk", "website": "ftp://example.com"}),
        {"location.operator.website": "must be an http or https URL, such as https://www.example.com/a"},
    ),
    "a text no screen can show": (
        create_location(name="a\0b", directions=[{"language": "de", "text": "\x1b[2J"}]),
        {"location.name": CONTROL, "location.directions[0].text": CONTROL},
    ),
    "opening times that are no times": (
        create_location(
            opening_times={
                "twentyfourseven": True,
                "exceptional_openings": [{"period_begin": NO_TIME, "period_end": Timestamp(seconds=5)}],
            }
        ),
        {"location.opening_times.exceptional_openings[0].period_begin": TIME},
    ),
    "hours that overlap": (
        create_location(opening_times=opened((5, "20:00", "02:00"), (6, "01:00", "03:00"))),
        {"location.opening_times": "regular_hours must not overlap"},
    ),
    "hours that overlap from Sunday on": (
        create_location(opening_times=opened((7, "20:00", "02:00"), (1, "01:59", "03:00"))),
        {"location.opening_times": "regular_hours must not overlap"},
    ),
    "hours without time": (
        create_location(opening_times=opened((1, "08:00", "08:00"))),
        {"location.opening_times": "regular_hours must not end when they begin: a whole day is 00:00 to 24:00"},
    ),
    "an exception that ends before it begins": (
        create_location(
            opening_times={
                "twentyfourseven": True,
                "exceptional_closings": [{"period_begin": Timestamp(seconds=6), "period_end": Timestamp(seconds=5)}],
            }
        ),
        {"location.opening_times.exceptional_closings[0]": "period_end must not be before period_begin"},
    ),
    "a tariff's time that is none": (
        create_tariff(lambda tariff: tariff.start_date_time.CopyFrom(NO_TIME)),
        {"tariff.start_date_time": TIME},
    ),
    "a price with a comma": (
        create_tariff(lambda tariff: tariff.elements[0].price_components[0].price.CopyFrom(Decimal(value="0,25"))),
        {
            "tariff.elements[0].price_components[0].price": (
                "must be a decimal number with up to 12 digits before the point and up to 12 after it, such as 0.25"
            )
        },
    ),
    "a percentage above 100": (
        create_tariff(lambda tariff: tariff.elements[0].price_components[0].vat.CopyFrom(Decimal(value="119"))),
        {
            "tariff.elements[0].price_components[0].vat": (
                "must be a decimal number from 0 to 100 with up to 12 digits after the point, such as 19.5"
            )
        },
    ),
    "a currency that ISO does not know": (
        create_tariff(lambda tariff: setattr(tariff, "currency", "EUX")),
        {"tariff.currency": "must be a currency code of three upper-case letters (ISO 4217), such as EUR"},
    ),
    "a currency of a list": (
        lambda client: client.tariffs.ListTariffs(ListTariffsRequest(currency="eur")),
        {"currency": "must be a currency code of three upper-case letters (ISO 4217), such as EUR"},
    ),
    "a UUID that is none": (
        lambda client: client.companies.GetCompany(GetCompanyRequest(id="7")),
        {"id": "must be a UUID, such as 1e49b853-36fc-47ed-9826-97828b5b2fdd"},
    ),
    "a type with another connection": (
        create_integration(type=INTEGRATION_TYPE_OCPI, ampeco=AmpecoConnection(base_url="https://a.example")),
        {"integration": ("the type INTEGRATION_TYPE_OCPI takes the connection ocpi, and this one is ampeco")},
    ),
    "a rule's time that is none": (
        lambda client: client.publication.CreatePublicationRule(
            CreatePublicationRuleRequest(rule=a_rule(valid_from=NO_TIME, valid_until=Timestamp(seconds=5)))
        ),
        {"rule.valid_from": TIME},
    ),
    "a rule's time that is none, in an update": (
        lambda client: client.publication.UpdatePublicationRule(
            UpdatePublicationRuleRequest(rule=a_rule(id="r", valid_until=Timestamp(seconds=1 << 40)))
        ),
        {"rule.valid_until": TIME},
    ),
    "a text in an update that is masked": (
        lambda client: client.locations.UpdateLocation(
            UpdateLocationRequest(location=a_location(name="\x07"), update_mask=FieldMask(paths=["name"]))
        ),
        {"location.name": CONTROL},
    ),
}


@pytest.mark.parametrize("case", CALLS)
async def test_a_violation_says_what_is_wanted(tenant: Tenant, case: str) -> None:
    call, violations = CALLS[case]
    failure = await fails(call(tenant.admin))
    assert (failure.reason, failure.violations) == ("INVALID_FIELD", violations)
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    assert failure.message in {f"{path}: {words}{more}" for path, words in violations.items()}


async def test_an_id_that_was_stored_once_can_still_be_asked_for(tenant: Tenant) -> None:
    key = LocationKey(country_code="DE", party_id="ABC", id="L1 ")
    assert (
        await fails(tenant.reader.locations.GetLocation(GetLocationRequest(key=key)))
    ).reason == "RESOURCE_NOT_FOUND"


async def test_an_object_is_named_as_people_write_it(tenant: Tenant) -> None:
    key = LocationKey(country_code="de", party_id="abc", id="Loc-1")
    failure = await fails(tenant.reader.locations.GetLocation(GetLocationRequest(key=key)))
    assert failure.message == "location DE*ABC*Loc-1 does not exist"
    assert failure.metadata == {"resource": "location", "id": "DE*ABC*Loc-1"}


async def test_hours_that_touch_or_pass_midnight_are_taken(tenant: Tenant) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    hours = opened((5, "20:00", "02:00"), (6, "02:00", "12:00"), (6, "12:00", "00:00"), (7, "00:00", "24:00"))
    location = a_location(opening_times=hours)
    await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=location))


async def test_a_language_is_stored_in_lower_case(tenant: Tenant) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    location = a_location(directions=[{"language": "DE", "text": "Im Hof"}])
    created = await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=location))
    assert created.directions[0].language == "de"
