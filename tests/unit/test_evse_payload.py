"""The bytes of an EVSE: the same message as any, whose status is replaced at their end."""

from datetime import UTC, datetime

from evbridge.v1.location_pb2 import Evse, EvseStatus, Location
from hypothesis import given
from hypothesis import strategies as st

from service.storage.evse_payload import evse_payload, evse_tail

times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(3000, 1, 1), timezones=st.just(UTC))
statuses = st.sampled_from(EvseStatus.values())


def an_evse(status: EvseStatus.ValueType, status_time: datetime, last_updated: datetime) -> Evse:
    evse = Evse(uid="E1", status=status, charger_id="c", accepted_service_providers=["p" * 300])
    evse.status_time.FromDatetime(status_time)
    evse.last_updated.FromDatetime(last_updated)
    return evse


def read(payload: bytes) -> list[Evse]:
    return [*Location.FromString(payload).evses]


@given(status=statuses, other=statuses, first=times, second=times, third=times)
def test_the_tail_is_replaced_in_whole_or_but_for_last_updated(
    status: EvseStatus.ValueType, other: EvseStatus.ValueType, first: datetime, second: datetime, third: datetime
) -> None:
    evse = an_evse(status, first, second)
    payload = evse_payload(evse)
    assert read(payload) == [evse]
    tail = evse_tail(other, third, second)
    assert payload[5] == 0, "what tells SQL that the tail is there"
    assert read(payload[:-31] + tail) == [an_evse(other, third, second)]
    assert read(payload[:-17] + evse_tail(other, third, first)[14:]) == [an_evse(other, third, second)]


def test_an_evse_with_times_out_of_reach_is_written_as_ever() -> None:
    others = [an_evse(1, datetime(year, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)) for year in (1969, 9999)]
    for evse in (Evse(uid="E1"), *others):
        assert evse_payload(evse) == Location(evses=[evse]).SerializeToString()
