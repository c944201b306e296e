"""Our objects in eMabler's form: nothing is lost in silence, and what it does not document is refused."""

import json
from typing import Any

import pytest
from evbridge.partner.emabler.v2 import integration_pb2
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Location
from evbridge.v1.ocpi_connection_pb2 import InterfaceRole
from evbridge.v1.party_pb2 import PartyRole
from google.protobuf.text_format import Parse
from hypothesis import given
from hypothesis import strategies as st

from service.bridge.codec import compile_codec
from service.domain.fields import clear_output_only
from service.errors import Unsupported
from service.partners.emabler import mapping as emabler
from tests.filling import DEGREES, filled, leaves, plain

# What is called otherwise there, by the path without indices.
RENAMED = {
    "time_zone": "timezone",
    "evses.charger_id": "chargers.charger_id",
    "evses.connectors.id": "chargers.connector.id",
    "evses.connectors.tariff_ids": "chargers.connector.tariff_ids",
    "display_name": "integration_name",
    "type": "integration_type",
    "charging_period_interval_minutes": "charging_period_interval_in_minutes",
    "state_of_charge_sent": "state_of_charge_is_sent",
    "customer_roles": "ocpi_connection.customer_roles",
    "ocpi.platform_party_id": "ocpi_connection.third_party_id",
    "ocpi.platform_party_country_code": "ocpi_connection.third_party_country_code",
    "utility_cloud.meter_values_sent": "utility_cloud_connection.metered_values_are_sent",
}
FOLDERS = {
    "energy_mix": "location_energy_mix",
    "ocpi": "ocpi_connection",
    "utility_cloud": "utility_cloud_connection",
    "salesforce": "salesforce_connection",
}


def there(path: str) -> str:
    first, dot, rest = plain(path).partition(".")
    return RENAMED.get(plain(path), FOLDERS.get(first, first) + dot + rest)


def unnamed(given: Any, mapped: Any) -> list[str]:
    """What was set, is not named as lost and has no value there."""
    meant = type(given)()
    meant.CopyFrom(given)
    clear_output_only(meant)
    meant.ClearField("etag")
    held = {plain(path) for path, _ in leaves(mapped.message)}
    lost = [loss.path for loss in mapped.losses]
    return [
        path
        for path, _ in leaves(meant)
        if there(path) not in held and not any(path == one or path.startswith((one + ".", one + "[")) for one in lost)
    ]


@given(filled(Location, {"latitude": DEGREES, "longitude": DEGREES}), st.booleans())
def test_nothing_of_a_location_is_lost_in_silence(location: Location, create_empty: bool) -> None:
    assert unnamed(location, emabler.location_to(location, create_empty)) == []


@given(filled(Integration))
def test_nothing_of_an_integration_is_lost_in_silence(integration: Integration) -> None:
    assert unnamed(integration, emabler.integration_to(integration)) == []


def test_a_location_in_their_words() -> None:
    location = Parse(
        """
        country_code: "NO" party_id: "ABC" id: "L1" publish: true address: "Ankerveien 1" city: "Oslo" country: "NOR"
        coordinates { latitude: "59.970000" longitude: "10.730000" } time_zone: "Europe/Oslo" site_id: "4711"
        parking_type: PARKING_TYPE_ON_STREET facilities: FACILITY_WIFI
        opening_times { twentyfourseven: true exceptional_closings { period_begin { seconds: 0 } period_end { seconds: 60 } } }
        energy_mix { is_green_energy: true energy_sources { source: ENERGY_SOURCE_CATEGORY_WATER percentage { value: "99.50" } } }
        evses { uid: "1" status: EVSE_STATUS_AVAILABLE charger_id: "C1" connectors { id: "1" tariff_ids: "AC" } }
        evses { uid: "2" charger_id: "C1" connectors { id: "2" standard: CONNECTOR_TYPE_CHADEMO } }
        evses { uid: "3" connectors { id: "1" } }
        """,  # noqa: E501
        Location(),
    )
    done = emabler.location_to(location)
    assert json.loads(compile_codec(done.message.DESCRIPTOR, field_names=False).encode(done.message)) == {
        "id": "L1",
        "publish": True,
        "address": "Ankerveien 1",
        "city": "Oslo",
        "country": "NOR",
        "coordinates": {"latitude": "59.970000", "longitude": "10.730000"},
        "timezone": "Europe/Oslo",
        "siteId": 4711,
        "parkingType": "ON_STREET",
        "facilities": ["WIFI"],
        "openingTimes": {
            "twentyfourseven": True,
            "exceptionalClosings": [{"periodBegin": "1970-01-01T00:00:00Z", "periodEnd": "1970-01-01T00:01:00Z"}],
        },
        "locationEnergyMix": {"isGreenEnergy": True, "energySources": [{"source": "WATER", "percentage": 99.50}]},
        "chargers": [{"chargerId": "C1", "connector": [{"id": "1", "tariffIds": ["AC"]}, {"id": "2"}]}],
    }
    assert [loss.path for loss in done.losses] == [
        "country_code",
        "party_id",
        "evses[0].uid",
        "evses[0].status",
        "evses[1].uid",
        "evses[1].connectors[0].standard",
        "evses[2]",
    ]
    assert not emabler.location_to(location, create_empty=True).message.chargers


@pytest.mark.parametrize("site_id", ["Oslo 1", "007", "-0", "٣", "9223372036854775808"])
def test_a_site_that_is_no_number_of_theirs_is_named(site_id: str) -> None:
    done = emabler.location_to(Location(site_id=site_id))
    assert not done.message.HasField("site_id")
    assert [loss.path for loss in done.losses] == ["site_id"]


def test_an_integration_in_their_words() -> None:
    integration = Parse(
        """
        id: "virta" type: INTEGRATION_TYPE_OCPI display_name: "Virta" approved_party_id: 7 state_of_charge_sent: false
        customer_roles: PARTY_ROLE_OPEN_DATA models { push_cdr: true }
        ocpi { endpoint_url: "https://virta.test/v" initial_role: INTERFACE_ROLE_SENDER platform_party_id: "VIR" }
        """,
        Integration(),
    )
    done = emabler.integration_to(integration)
    assert json.loads(compile_codec(done.message.DESCRIPTOR, field_names=False).encode(done.message)) == {
        "integrationType": "OCPI",
        "integrationName": "Virta",
        "approvedPartyId": 7,
        "stateofChargeIsSent": False,
        "models": {"pushCdr": True},
        "ocpiConnection": {
            "endpointUrl": "https://virta.test/v",
            "initialRole": "SENDER",
            "customerRoles": ["OpenData"],
            "thirdPartyId": "VIR",
        },
    }
    assert [loss.path for loss in done.losses] == ["id"]


ANSWERS = (
    """{"integrationId": "9", "integrationType": "OCPI", "integrationStatus": "ok", "customerRoles": ["CPO"],
        "versionDetails": {"version": "2.2", "endpoints": [{"identifier": "cdrs", "role": "BOTH", "url": "http://a"}]},
        "partnersCompanyDetail": [{"role": "EMSP", "partyId": "VIR", "countryCode": "FI", "name": "Virta"}],
        "models": {"pullCdr": true}, "new": 1}""",
    """{"id": "9", "integrationType": "OCPI", "integrationStatus": "ok", "customerRoles": ["CPO"],
        "versionDetails": {"version": "2.2", "endpoints": [{"identifier": "cdrs", "role": "BOTH", "url": "http://a"}]},
        "credentialsInfo": {"credentialsRoles": [{"role": "EMSP", "party_id": "VIR", "country_code": "FI",
                                                  "business_details": {"name": "Virta"}}]},
        "models": {"pullCdr": true}, "new": 1}""",
)


@pytest.mark.parametrize(
    ("type", "answer"),
    [(integration_pb2.Integration, ANSWERS[0]), (integration_pb2.UpdatedIntegration, ANSWERS[1])],
)
def test_both_answers_say_the_same_of_the_partner(type: Any, answer: str) -> None:
    read = compile_codec(type.DESCRIPTOR, field_names=False).decode(answer.encode()).message
    done = emabler.integration_from(read)
    found = done.message
    assert found.version_details.endpoints[0].identifier == "cdrs"
    assert found.version_details.endpoints[0].role == InterfaceRole.INTERFACE_ROLE_BOTH
    company = found.partner_company_details[0]
    assert (company.role, company.party_id, company.country_code) == (PartyRole.PARTY_ROLE_EMSP, "VIR", "FI")
    assert company.business_details.name == "Virta"
    assert found.customer_roles == [PartyRole.PARTY_ROLE_CPO]
    assert found.models.pull_cdr
    assert {loss.path for loss in done.losses} == {"integration_status", "more"}


def test_a_role_that_nobody_knows_is_named() -> None:
    answer = integration_pb2.Integration(partners_company_detail=[{"role": "King", "name": "Virta"}])
    assert [loss.path for loss in emabler.integration_from(answer).losses] == ["partners_company_detail[0].role"]


def test_what_emabler_does_not_document_is_unsupported() -> None:
    with pytest.raises(Unsupported) as refused:
        emabler.unsupported("deliver a tariff")
    assert refused.value.metadata == {"partner": "emabler", "operation": "deliver a tariff"}
