"""How a driver wants to be charged: told to an operator, answered by a service of its own, kept in the session."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from evbridge.v1.audit_pb2 import ListAuditEventsRequest
from evbridge.v1.charging_preferences_pb2 import (
    CHARGING_PREFERENCES_RESPONSE_ACCEPTED,
    CHARGING_PREFERENCES_RESPONSE_DEPARTURE_REQUIRED,
    CHARGING_PREFERENCES_RESPONSE_NOT_POSSIBLE,
    ChargingPreferences,
    ChargingPreferencesResponse,
)
from evbridge.v1.location_pb2 import CAPABILITY_CHARGING_PREFERENCES_CAPABLE, CAPABILITY_RFID_READER, Location
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_COMPLETED,
    AnswerChargingPreferencesRequest,
    ChargingPreferencesQuestion,
    GetSessionRequest,
    ServeChargingPreferencesRequest,
    Session,
    SessionKey,
    SetChargingPreferencesRequest,
)
from evbridge.v1.token_pb2 import PROFILE_TYPE_CHEAP, PROFILE_TYPE_GREEN
from evbridge.v1.watch_pb2 import WatchSessionsRequest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from tests.front_door import fails
from tests.questions import answering
from tests.rpc.test_ocpi_charged import charging, tell
from tests.rpc.test_ocpi_push import HERS, a_place, pushed, store
from tests.rpc.test_registration import ID, SPOKEN, Side, Sides, sides
from tests.rpc.test_watch import watching

__all__ = ["sides"]
PUT = "evbridge.partner.ocpi.v2.SessionsSenderService/PutChargingPreferences"
CHEAP = ChargingPreferences(profile_type=PROFILE_TYPE_CHEAP)
GREEN = ChargingPreferences(
    profile_type=PROFILE_TYPE_GREEN,
    departure_time=Timestamp(seconds=1_900_000_000),
    energy_need=Decimal(value="20.5"),
    discharge_allowed=True,
)


def at_e0(capability: Any) -> Location:
    place = a_place(evses=1)
    place.evses[0].capabilities.append(capability)
    return place


async def prefer(emsp: Side, wanted: ChargingPreferences, **key: Any) -> ChargingPreferencesResponse.ValueType:
    named = SessionKey(**{**HERS, "id": "S1", "integration_id": ID, **key})
    request = SetChargingPreferencesRequest(key=named, charging_preferences=wanted)
    said: ChargingPreferencesResponse.ValueType = (await emsp.client.sessions.SetChargingPreferences(request)).response
    return said


async def own_session(cpo: Side) -> Session:
    session: Session = await cpo.client.sessions.GetSession(GetSessionRequest(key=SessionKey(**HERS, id="S1")))
    return session


def serving(
    cpo: Side, answer: Callable[[ChargingPreferencesQuestion], ChargingPreferencesResponse.ValueType]
) -> AbstractAsyncContextManager[list[ChargingPreferencesQuestion]]:
    """A service of the operator's that answers; what it was asked."""

    async def say(question: ChargingPreferencesQuestion) -> None:
        given = AnswerChargingPreferencesRequest(id=question.id, response=answer(question))
        await cpo.client.sessions.AnswerChargingPreferences(given)

    stream: Any = cpo.client.sessions.ServeChargingPreferences(ServeChargingPreferencesRequest(), timeout=120.0)
    return answering(stream, "questions", say)


@pytest.mark.parametrize("version", SPOKEN)
async def test_a_service_of_the_operator_answers_and_what_it_accepts_is_kept(sides: Sides, version: str) -> None:
    async with charging(sides, version) as (cpo, emsp):
        await store(cpo, at_e0(CAPABILITY_CHARGING_PREFERENCES_CAPABLE))
        await tell(cpo)
        await pushed(cpo, emsp)
        if version == "2.1.1":
            assert (await fails(prefer(emsp, GREEN))).reason == "INVALID_FIELD"
            return
        assert await prefer(emsp, GREEN) == CHARGING_PREFERENCES_RESPONSE_NOT_POSSIBLE, "nobody listens"

        def answer(question: ChargingPreferencesQuestion) -> ChargingPreferencesResponse.ValueType:
            if not question.charging_preferences.HasField("departure_time"):
                return CHARGING_PREFERENCES_RESPONSE_DEPARTURE_REQUIRED
            return CHARGING_PREFERENCES_RESPONSE_ACCEPTED

        watch = watching(cpo.client.watch.WatchSessions, WatchSessionsRequest())
        async with serving(cpo, answer) as asked, watch as watched:
            assert await prefer(emsp, CHEAP) == CHARGING_PREFERENCES_RESPONSE_DEPARTURE_REQUIRED
            assert await prefer(emsp, GREEN, id="s1") == CHARGING_PREFERENCES_RESPONSE_ACCEPTED
            changed = await watched.until(lambda change: change.session.HasField("charging_preferences"))
            assert changed.session.charging_preferences == GREEN
            assert [(each.key.id, each.integration_id) for each in asked] == [("S1", ID)] * 2
        events = (await cpo.client.audit.ListAuditEvents(ListAuditEventsRequest(rpc=PUT))).audit_events
        seen = [(each.actor, [*each.object_ids], [*each.fields]) for each in events]
        assert seen == [(f"integration/{ID}", ["DE*CPO*s1"], ["charging_preferences"])], "once: one was not accepted"
        assert await pushed(cpo, emsp) == [], "the provider knows what it wanted"
        await tell(cpo, kwh=Decimal(value="3"))
        assert (await own_session(cpo)).charging_preferences == GREEN
        assert len(await pushed(cpo, emsp)) == 1


async def test_who_cannot_be_asked_says_so(sides: Sides) -> None:
    async with charging(sides) as (cpo, emsp):
        await store(cpo, at_e0(CAPABILITY_RFID_READER))
        await tell(cpo)
        await pushed(cpo, emsp)
        async with serving(cpo, lambda question: CHARGING_PREFERENCES_RESPONSE_ACCEPTED) as asked:
            incapable = await fails(prefer(emsp, GREEN))
            assert (incapable.code, incapable.reason) == (grpc.StatusCode.NOT_FOUND, "PARTNER_NOT_FOUND")
            await store(cpo, at_e0(CAPABILITY_CHARGING_PREFERENCES_CAPABLE))
            await tell(cpo, status=SESSION_STATUS_COMPLETED)
            assert (await fails(prefer(emsp, GREEN))).reason == "PARTNER_REJECTED", "the session is over"
            assert (await fails(prefer(emsp, GREEN, id="S2"))).reason == "RESOURCE_NOT_FOUND"
            own = await fails(prefer(emsp, GREEN, integration_id=""))
            assert (own.reason, [*own.violations]) == ("INVALID_FIELD", ["key"])
            wrong = await fails(prefer(emsp, ChargingPreferences()))
            assert [*wrong.violations] == ["charging_preferences.profile_type"]
        assert asked == []
