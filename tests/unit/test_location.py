"""What a location becomes when it is stored again, as rules that hold for any pair of versions."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    EVSE_STATUS_REMOVED,
    Connector,
    Evse,
    Location,
)
from hypothesis import given
from hypothesis import strategies as st

from service.domain.location import keep_evses, location_etag, stamp_evses

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOW = LONG_AGO + timedelta(days=1)
CONNECTORS = st.lists(
    st.builds(Connector, id=st.sampled_from("1aA"), max_amperage=st.integers(1, 2)),
    max_size=2,
    unique_by=lambda connector: connector.id.casefold(),
)
EVSES = st.builds(
    Evse,
    uid=st.sampled_from(["e1", "E1", "e2", "E3"]),
    status=st.sampled_from([EVSE_STATUS_AVAILABLE, EVSE_STATUS_CHARGING, EVSE_STATUS_REMOVED]),
    physical_reference=st.sampled_from(["", "left"]),
    connectors=CONNECTORS,
)
LOCATIONS = st.builds(
    Location,
    name=st.sampled_from(["", "Wattwerk"]),
    evses=st.lists(EVSES, max_size=3, unique_by=lambda evse: evse.uid.casefold()),
)


def stored(location: Location) -> Location:
    """As it is after its first day."""
    first = deepcopy(location)
    stamp_evses(first, None, LONG_AGO)
    return first


def again(wanted: Location, before: Location) -> Location:
    result = deepcopy(wanted)
    keep_evses(result, before)
    stamp_evses(result, before, NOW)
    return result


def bare(evse: Evse) -> Evse:
    """Without ids as they are spelled, and without times."""
    content = Evse()
    content.CopyFrom(evse)
    for part in (content, *content.connectors):
        part.ClearField("last_updated")
    content.ClearField("status_time")
    content.uid = content.uid.casefold()
    for connector in content.connectors:
        connector.id = connector.id.casefold()
    return content


@given(LOCATIONS, LOCATIONS)
def test_what_was_sent_is_there_and_what_was_left_out_is_removed(before: Location, wanted: Location) -> None:
    result = again(wanted, stored(before))
    sent = len(wanted.evses)
    assert [bare(evse) for evse in result.evses[:sent]] == [bare(evse) for evse in wanted.evses]
    named = {evse.uid.casefold() for evse in wanted.evses}
    left_out = {evse.uid.casefold() for evse in before.evses} - named
    assert {evse.uid.casefold() for evse in result.evses[sent:]} == left_out
    assert all(evse.status == EVSE_STATUS_REMOVED for evse in result.evses[sent:])


@given(LOCATIONS, LOCATIONS)
def test_ids_keep_their_first_spelling(before: Location, wanted: Location) -> None:
    first = {evse.uid.casefold(): evse for evse in before.evses}
    for evse in again(wanted, stored(before)).evses:
        if old := first.get(evse.uid.casefold()):
            assert evse.uid == old.uid
            spelled = {connector.id.casefold(): connector.id for connector in old.connectors}
            assert all(
                connector.id == spelled.get(connector.id.casefold(), connector.id) for connector in evse.connectors
            )


@given(LOCATIONS, LOCATIONS)
def test_a_time_moves_exactly_when_what_it_dates_did(before: Location, wanted: Location) -> None:
    was = {evse.uid.casefold(): evse for evse in stored(before).evses}
    for evse in again(wanted, stored(before)).evses:
        old = was.get(evse.uid.casefold())
        changed = old is None or bare(evse) != bare(old)
        assert (evse.last_updated.ToDatetime(UTC) == NOW) is changed
        assert (evse.status_time.ToDatetime(UTC) == NOW) is (old is None or evse.status != old.status)


@given(LOCATIONS)
def test_storing_the_same_again_changes_nothing(location: Location) -> None:
    before = stored(location)
    result = again(before, before)
    assert result == before
    assert again(result, before) == result


@given(LOCATIONS, st.integers(0, 2), st.sampled_from([EVSE_STATUS_AVAILABLE, EVSE_STATUS_CHARGING]))
def test_of_statuses_the_etag_holds_only_which_are_removed(location: Location, number: int, status: int) -> None:
    before = location_etag(location)
    if number < len(location.evses):
        was_removed = location.evses[number].status == EVSE_STATUS_REMOVED
        location.evses[number].status = status  # type: ignore[assignment]
        assert (location_etag(location) != before) is was_removed
