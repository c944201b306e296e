"""What was changed here of an imported object, and what a later import leaves alone."""

from typing import Any

import pytest
from evbridge.v1.location_pb2 import EVSE_STATUS_CHARGING, EVSE_STATUS_REMOVED, Location
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import Origin

from service.domain.fields import clear_output_only
from service.domain.origin import imported_id, keep_origin, keep_overrides, set_origin
from tests.front_door import a_location, a_tariff, an_evse

ORIGIN = Origin(integration_id="am", external_id="1")


def imported(**changes: Any) -> Location:
    location = a_location(id="am-1", **changes)
    location.origin.CopyFrom(ORIGIN)
    return location


def edited(before: Location, **changes: Any) -> Location:
    """As a caller leaves it."""
    wanted = Location()
    wanted.CopyFrom(before)
    wanted.MergeFrom(Location(**changes))
    clear_output_only(wanted)
    keep_origin(wanted, before)
    return wanted


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        ({}, []),
        ({"name": "Ours"}, ["name"]),
        ({"coordinates": {"latitude": "1.00000"}}, ["coordinates"]),
        ({"evses": [an_evse("E3")]}, ["evses[E3]"]),
        ({"etag": "another"}, []),
        ({"city": "Berlin"}, []),
    ],
)
def test_what_differs_is_an_override(changes: dict[str, Any], overrides: list[str]) -> None:
    wanted = edited(imported(), **changes)
    assert [*wanted.overrides] == overrides
    assert wanted.origin == ORIGIN


def test_an_evses_fields_are_overrides_of_their_own_but_not_its_status() -> None:
    before = imported(evses=[an_evse("a].b"), an_evse("E2"), an_evse("E3")])
    wanted = Location()
    wanted.CopyFrom(before)
    wanted.evses[0].floor_level = "1"
    wanted.evses[1].status = EVSE_STATUS_CHARGING
    wanted.evses[2].status = EVSE_STATUS_REMOVED
    clear_output_only(wanted)
    keep_origin(wanted, before)
    assert [*wanted.overrides] == ["evses[E3]", "evses[a].b].floor_level"]
    again = imported(evses=before.evses, name="Theirs")
    keep_overrides(again, wanted)
    assert (again.name, again.evses[0].floor_level, again.evses[2].status) == ("Theirs", "1", EVSE_STATUS_REMOVED)


def test_overrides_stay_with_every_import() -> None:
    before = edited(imported(), name="Ours")
    again = a_location(id="am-1", name="Theirs", city="Potsdam")
    keep_overrides(again, before)
    set_origin(again, before, ORIGIN)
    assert (again.name, again.city, [*again.overrides]) == ("Ours", "Potsdam", ["name"])


def test_an_emptied_field_is_an_override() -> None:
    before = edited(imported(name="Theirs"))
    cleared = Location()
    cleared.CopyFrom(before)
    cleared.ClearField("name")
    clear_output_only(cleared)
    keep_origin(cleared, before)
    again = imported(name="Theirs")
    keep_overrides(again, cleared)
    assert again.name == ""


def test_what_was_made_here_has_no_overrides() -> None:
    wanted = Tariff(name="New")
    keep_origin(wanted, a_tariff(name="Old"))
    assert not wanted.overrides
    assert not wanted.HasField("origin")


@pytest.mark.parametrize("external_id", ["1", "9223372036854775807"])
@pytest.mark.parametrize("integration_id", ["am", "a" * 63])
def test_an_imported_id_says_where_it_is_from_and_fits(integration_id: str, external_id: str) -> None:
    id = imported_id(integration_id, external_id)
    assert len(id) <= 36
    assert id.startswith(integration_id[:10])
    assert id.endswith(f"-{external_id}")
