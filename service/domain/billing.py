"""A session of ours that ended, as the CDR that bills it, and whether somebody else charged the same for it. Pure."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_DIFFERENT,
    CDR_AUDIT_STATE_EQUAL,
    Cdr,
    CdrAudit,
    CdrLocation,
)
from evbridge.v1.location_pb2 import Connector, Evse, Location
from evbridge.v1.pricing_pb2 import (
    CDR_DIMENSION_TYPE_ENERGY,
    CDR_DIMENSION_TYPE_PARKING_TIME,
    ROUNDING_LEVEL_TOTAL,
    CdrDifference,
    CdrDimensionType,
    PricingOptions,
    Quote,
    QuotePriceRequest,
    Rounding,
)
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import Price

from service.domain.charged import SESSION_ONLY
from service.domain.currency import decimals
from service.domain.location import connector_at
from service.domain.pricing.audit import TOTALS
from service.domain.pricing.numbers import HOUR_S, ZERO, message, number, seconds
from service.errors import InvalidArgument

_SAME: Final = Decimal("0.005")
"""What two amounts may differ by: half a cent."""
_HOURS: Final = Decimal("0.000001")


class Place(NamedTuple):
    """Where a session is, and where its connector stands in the location, see connector_at."""

    location: Location
    at: tuple[int, int]

    @classmethod
    def of(cls, location: Location, evse_uid: str, connector_id: str) -> "Place | None":
        """None when the location has no such connector."""
        at = connector_at(location, evse_uid, connector_id)
        return at and cls(location, at)

    @property
    def evse(self) -> Evse:
        return self.location.evses[self.at[0]]

    @property
    def connector(self) -> Connector:
        return self.evse.connectors[self.at[1]]


def quote_of(session: Session, tariff: Tariff, location: Location) -> QuotePriceRequest:
    """The request for its price, in amounts that can be paid."""
    request = QuotePriceRequest(tariff=tariff)
    request.periods.start_date_time.CopyFrom(session.start_date_time)
    request.periods.end_date_time.CopyFrom(session.end_date_time)
    request.periods.charging_periods.extend(session.charging_periods)
    rounding = Rounding(level=ROUNDING_LEVEL_TOTAL, decimals=decimals(tariff.currency))
    request.options.CopyFrom(PricingOptions(time_zone=location.time_zone, rounding=rounding))
    return request


def cdr_of(session: Session, place: Place, tariff: Tariff | None, quote: Quote) -> Cdr:
    """The CDR of a session that ended: under its id, at its price. Without a tariff it is free of charge."""
    cdr = Cdr(
        country_code=session.country_code,
        party_id=session.party_id,
        id=session.id,
        start_date_time=session.start_date_time,
        end_date_time=session.end_date_time,
        session_id=session.id,
        cdr_token=session.cdr_token,
        auth_method=session.auth_method,
        authorization_reference=session.authorization_reference,
        cdr_location=_location_of(place),
        meter_id=session.meter_id,
        currency=quote.currency or session.currency,
        charging_periods=session.charging_periods,
        total_cost=quote.total_cost,
        recipient_integration_id=session.recipient_integration_id,
    )
    if tariff:
        cdr.tariffs.add().CopyFrom(tariff)
        for name in ("origin", "overrides", "etag", "create_time"):
            cdr.tariffs[0].ClearField(name)
    else:
        cdr.total_cost.excl_vat.value = "0"
    for period in cdr.charging_periods:
        kept = [each for each in period.dimensions if each.type not in SESSION_ONLY]
        del period.dimensions[:]
        period.dimensions.extend(kept)
    costs = {total.category: total.cost for total in quote.totals}
    for name, category in TOTALS.items():
        if category in costs:
            getattr(cdr, name).CopyFrom(costs[category])
    length_s = seconds(session.end_date_time) - seconds(session.start_date_time)
    cdr.total_energy.CopyFrom(message(_sum(session, CDR_DIMENSION_TYPE_ENERGY)))
    cdr.total_time.CopyFrom(message((length_s / HOUR_S).quantize(_HOURS)))
    cdr.total_parking_time.CopyFrom(message(_sum(session, CDR_DIMENSION_TYPE_PARKING_TIME)))
    return cdr


def compared(cdr: Cdr, charged: Price, currency: str) -> CdrAudit:
    """Whether the operator's system charged what the CDR says."""
    differences = [*_differences(cdr, charged, currency)]
    state = CDR_AUDIT_STATE_DIFFERENT if differences else CDR_AUDIT_STATE_EQUAL
    return CdrAudit(state=state, differences=differences, computed_cost=cdr.total_cost)


def _differences(cdr: Cdr, charged: Price, currency: str) -> Iterator[CdrDifference]:
    if currency and currency != cdr.currency:
        yield CdrDifference(path="currency", message=f"{currency} was charged, and the tariff is in {cdr.currency}")
        return
    for name in ("excl_vat", "incl_vat"):
        if not charged.HasField(name):
            continue
        # What is without VAT costs the same with it.
        ours = getattr(cdr.total_cost, name if cdr.total_cost.HasField(name) else "excl_vat")
        stated, computed = number(getattr(charged, name)), number(ours)
        if abs(stated - computed) > _SAME:
            yield CdrDifference(
                path=f"total_cost.{name}",
                stated=message(stated),
                computed=message(computed),
                difference=message(stated - computed),
                message=f"{stated:f} {cdr.currency} was charged, and the tariff makes {computed:f}",
            )


def _sum(session: Session, type: CdrDimensionType.ValueType) -> Decimal:
    found = (each for period in session.charging_periods for each in period.dimensions if each.type == type)
    return sum((number(each.volume) for each in found), ZERO)


def _location_of(place: Place) -> CdrLocation:
    """As it is now, cut to what a CDR holds. Raises InvalidArgument without what drivers know the place by."""
    location, evse, connector = place.location, place.evse, place.connector
    if not location.address or not location.city:
        raise InvalidArgument.field("cdr_location", "needs the address and the city of the location")
    return CdrLocation(
        id=location.id,
        name=location.name,
        address=location.address[:45],
        city=location.city,
        postal_code=location.postal_code,
        state=location.state,
        country=location.country,
        coordinates=location.coordinates,
        evse_uid=evse.uid,
        # OCPI requires what drivers see. Where there is none the uid is at least unique.
        evse_id=evse.evse_id or evse.uid,
        connector_id=connector.id,
        connector_standard=connector.standard,
        connector_format=connector.format,
        connector_power_type=connector.power_type,
    )
