"""AMPECO's sessions as ours. Its energies are Wh."""

from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, Final, NamedTuple

from evbridge.partner.ampeco.v3 import session_pb2
from evbridge.v1.cdr_token_pb2 import AUTH_METHOD_AUTH_REQUEST, AUTH_METHOD_WHITELIST, CdrToken
from evbridge.v1.pricing_pb2 import (
    CDR_DIMENSION_TYPE_ENERGY,
    CDR_DIMENSION_TYPE_PARKING_TIME,
    CDR_DIMENSION_TYPE_TIME,
    CdrDimension,
    ChargingPeriod,
)
from evbridge.v1.session_pb2 import (
    SESSION_STATUS_ACTIVE,
    SESSION_STATUS_COMPLETED,
    SESSION_STATUS_INVALID,
    SESSION_STATUS_PENDING,
    Session,
)
from evbridge.v1.token_pb2 import WHITELIST_TYPE_NEVER, Token
from evbridge.v1.types_pb2 import Price
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.billing import Place
from service.domain.pricing.numbers import HOUR_S, ZERO, message, seconds, timestamp
from service.errors import FieldViolation, InvalidArgument
from service.partners.ampeco.mapping import time_of

_STATUSES: Final = {
    "pending": SESSION_STATUS_PENDING,
    "active": SESSION_STATUS_ACTIVE,
    "finished": SESSION_STATUS_COMPLETED,
    "failed": SESSION_STATUS_INVALID,
    "expired": SESSION_STATUS_INVALID,
}
_KWH: Final = Decimal("0.001")
_HOURS: Final = Decimal("0.000001")
_BILLED: Final = ("completed", "")
"""Billing statuses with which an amount is final; releases before 3.96 told none."""


class _Period(NamedTuple):
    """A part of a session, by the clock in seconds, and its energy in Wh."""

    start: Decimal
    end: Decimal
    energy: Decimal


def is_remote_start(remote: session_pb2.Session) -> bool:
    """Whether it was started by AMPECO itself: then its tag is the session's own number, which no provider issued."""
    return remote.id_tag.startswith("*")


def session_from(
    remote: session_pb2.Session, place: Place, token: Token, currency: str
) -> tuple[Session, tuple[FieldViolation, ...]]:
    """As one of ours, without a name and a tariff, and what was taken otherwise than it was told.

    `currency` is the operator's. Raises InvalidArgument with the member of AMPECO's that is wrong.
    """
    start, end = _time(remote, "started_at"), _time(remote, "stopped_at")
    status = _STATUSES.get(remote.status)
    wrong = [
        *((FieldViolation("/status", "is not one that OCPI has"),) if status is None else ()),
        *((FieldViolation("/startedAt", "is required"),) if start is None else ()),
    ]
    if status == SESSION_STATUS_COMPLETED:
        wrong += (FieldViolation("/stoppedAt", "is required of a session that is finished"),) if end is None else ()
        wrong += () if remote.HasField("energy") else (FieldViolation("/energy", "is required of such a session"),)
    if start and end and seconds(end) < seconds(start):
        wrong.append(FieldViolation("/stoppedAt", "is before startedAt"))
    if wrong or start is None or status is None:
        raise InvalidArgument.of(tuple(wrong), "session")
    session = Session(
        start_date_time=start,
        cdr_token=CdrToken(
            country_code=token.country_code,
            party_id=token.party_id,
            uid=token.uid,
            type=token.type,
            contract_id=token.contract_id,
        ),
        auth_method=AUTH_METHOD_AUTH_REQUEST if token.whitelist == WHITELIST_TYPE_NEVER else AUTH_METHOD_WHITELIST,
        location_id=place.location.id,
        evse_uid=place.evse.uid,
        connector_id=place.connector.id,
        currency=remote.currency or currency,
        status=status,
    )
    energy = _number(remote.energy.value) or ZERO
    session.kwh.CopyFrom(message(energy * _KWH))
    if end and status in (SESSION_STATUS_COMPLETED, SESSION_STATUS_INVALID):
        session.end_date_time.CopyFrom(end)
    if status in (SESSION_STATUS_PENDING, SESSION_STATUS_INVALID):
        return session, ()
    until = seconds(end or _time(remote, "last_updated_at") or start)
    periods, notices = _periods(remote, seconds(start), max(until, seconds(start)), energy)
    session.charging_periods.extend(map(_period, periods))
    return session, notices


def charged(remote: session_pb2.Session) -> Price | None:
    """What AMPECO charged; None while that is not final, or not told."""
    price = Price()
    if remote.billing_status in _BILLED:
        for ours, theirs in (("excl_vat", "without_tax"), ("incl_vat", "with_tax")):
            if (amount := _number(getattr(remote.total_amount, theirs).value)) is not None:
                getattr(price, ours).CopyFrom(message(amount))
        if not price.ListFields() and (amount := _number(remote.amount.value)) is not None:
            price.incl_vat.CopyFrom(message(amount))
    return price if price.ListFields() else None


def _periods(
    remote: session_pb2.Session, start: Decimal, end: Decimal, energy: Decimal
) -> tuple[list[_Period], tuple[FieldViolation, ...]]:
    """Those that AMPECO tells, from the session's start to its end; one when they are not all of it."""
    told, wrong = [], ""
    for each in remote.charging_periods:
        period = _told(each, end)
        if period is None:
            wrong = "have one without its times or its energy"
            break
        told.append(period)
    told.sort()
    if told and not wrong:
        if told[0].start < start or told[-1].end > end or any(one.end > other.start for one, other in pairwise(told)):
            wrong = "overlap, or are not within the session"
        elif sum((each.energy for each in told), ZERO) != energy:
            wrong = "do not add up to its energy"
    if not (wrong or told or energy or remote.stopped_at):
        return [], ()
    if wrong or not told:
        notices = (FieldViolation("/chargingPeriods", f"{wrong}: taken as one period"),) if wrong else ()
        return [_Period(start, end, energy)], notices
    told[0] = told[0]._replace(start=start)
    if told[-1].end < end:
        told.append(_Period(told[-1].end, end, ZERO))
    return told, ()


def _told(period: Struct, end: Decimal) -> _Period | None:
    """None without its start or its energy. One that has not ended ends now."""
    start, stop = (time_of(str(period[name] or "")) if name in period else None for name in ("startedAt", "stoppedAt"))
    energy = _number(period["energy"]) if "energy" in period else None
    if start is None or energy is None:
        return None
    return _Period(seconds(start), seconds(stop) if stop else max(seconds(start), end), energy)


def _period(period: _Period) -> ChargingPeriod:
    """Without energy the vehicle asked for none."""
    hours = message(((period.end - period.start) / HOUR_S).quantize(_HOURS))
    time = CDR_DIMENSION_TYPE_TIME if period.energy else CDR_DIMENSION_TYPE_PARKING_TIME
    found = ChargingPeriod(start_date_time=timestamp(period.start))
    if period.energy:
        energy = message(period.energy * _KWH)
        found.dimensions.append(CdrDimension(type=CDR_DIMENSION_TYPE_ENERGY, volume=energy))
    found.dimensions.append(CdrDimension(type=time, volume=hours))
    return found


def _time(remote: session_pb2.Session, name: str) -> Timestamp | None:
    return time_of(getattr(remote, name)) if getattr(remote, name) else None


def _number(value: Any) -> Decimal | None:
    """Of a number of a Struct its shortest form, which has all digits that AMPECO wrote."""
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None
