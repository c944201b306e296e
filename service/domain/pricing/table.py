"""A Quote as text: an invoice that says why."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1.types_pb2 import Price
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.pricing.clock import zone_of
from service.domain.pricing.quote import NEVER_PRICED

_WORDS = {
    p.COST_CATEGORY_FIXED: "Fee",
    p.COST_CATEGORY_ENERGY: "Energy",
    p.COST_CATEGORY_TIME: "Charging time",
    p.COST_CATEGORY_PARKING: "Parking time",
    p.COST_CATEGORY_RESERVATION: "Reservation",
}
_KINDS = {
    "ENERGY_SPOT": ", spot price",
    "ENERGY_SPOT_LOCKED": ", spot price of the start",
    "SOCKET_COUNT": " per socket",
    "CHARGER_COUNT": " per charger",
}
_PER = {p.QUANTITY_UNIT_KWH: "/kWh", p.QUANTITY_UNIT_SECOND: "/h", p.QUANTITY_UNIT_PIECE: ""}
_BOUNDS = {"min": "minimum price raises", "max": "maximum price lowers"}
_HEAD = ("", "from", "to", "consumed", "billed", "price", "excl. VAT", "VAT", "incl. VAT", "because")
_LEFT = {0, 1, 2, 9}


def table(quote: p.Quote, time_zone: str) -> str:
    """Local times are those of the zone, which must exist."""
    zone = zone_of(time_zone, "time_zone")
    tariff = quote.tariff
    start, end = (datetime.fromtimestamp(time.seconds, zone) for time in (quote.start_date_time, quote.end_date_time))

    form = "%H:%M:%S" if start.date() == end.date() else "%Y-%m-%d %H:%M:%S"
    if start.utcoffset() != end.utcoffset():
        form += "%z"

    def shown(time: Timestamp) -> str:
        """Without the date when that of the title says it, with the offset when the clock is changed meanwhile."""
        return f"{datetime.fromtimestamp(time.seconds, zone):{form}}"

    rows = [_HEAD, *(_row(line, shown) for line in quote.lines)]
    rows.append(("Total", "", "", "", "", "", *_amounts(quote.total_cost, quote.currency), ""))
    bounds = [
        f"the {_BOUNDS[clamp.bound[:3]]} the total {'with' if clamp.with_vat else 'without'} VAT "
        f"from {clamp.before.value} to {clamp.after.value}"
        for clamp in quote.clamps
    ]
    title = (
        f"Tariff {tariff.id} of {tariff.country_code}*{tariff.party_id}; "
        f"{start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S}, {time_zone}"
    )
    notes = (*bounds, *_free(quote.unpriced, shown), *quote.notices)
    return "\n".join([title, "", *_aligned(rows), *(f"- {text}" for text in notes)])


def _free(gaps: Sequence[p.UnpricedConsumption], shown: Callable[[Timestamp], str]) -> Iterator[str]:
    """What is never priced is summed up in a line."""
    never: dict[tuple[p.CostCategory.ValueType, p.QuantityUnit.ValueType], Decimal] = {}
    for gap in gaps:
        if gap.reason == NEVER_PRICED:
            kind = gap.category, gap.unit
            never[kind] = never.get(kind, Decimal()) + Decimal(gap.quantity.value)
    if never:
        sums = (f"{_WORDS[category].lower()} {_quantity(unit, f'{sum:f}')}" for (category, unit), sum in never.items())
        yield f"not priced by this tariff: {', '.join(sums)}"
    for gap in gaps:
        if gap.reason != NEVER_PRICED:
            time = f"from {shown(gap.start_date_time)} to {shown(gap.end_date_time)}"
            amount = _quantity(gap.unit, gap.quantity.value)
            yield f"not charged: {_WORDS[gap.category].lower()} {amount} {time}: {gap.reason}"


def _row(line: p.QuoteLine, shown: Callable[[Timestamp], str]) -> tuple[str, ...]:
    once = line.unit == p.QUANTITY_UNIT_PIECE
    why = [*line.conditions] or ["no condition"]
    if line.step_size and line.billed_quantity != line.quantity:
        why.append(f"billed in steps of {_quantity(line.unit, _step(line))}")
    return (
        _WORDS[line.category] + _KINDS.get(line.type, ""),
        shown(line.start_date_time),
        "" if once else shown(line.end_date_time),
        "" if once else _quantity(line.unit, line.quantity.value),
        _quantity(line.unit, line.billed_quantity.value),
        line.unit_price.value + _PER[line.unit],
        *_amounts(line.cost, "", _vat(line)),
        "; ".join(why),
    )


def _vat(line: p.QuoteLine) -> str:
    if line.HasField("vat"):
        return f"{line.vat.value} %"
    return "none" if line.cost.HasField("excl_vat") else "included"


def _step(line: p.QuoteLine) -> str:
    return str(Decimal(line.step_size) / 1000 if line.unit == p.QUANTITY_UNIT_KWH else line.step_size)


def _amounts(price: Price, currency: str, vat: str = "") -> tuple[str, str, str]:
    incl = price.incl_vat if price.HasField("incl_vat") else price.excl_vat
    excl = f"{price.excl_vat.value} {currency}".rstrip() if price.HasField("excl_vat") else "unknown"
    return excl, vat, f"{incl.value} {currency}".rstrip()


def _quantity(unit: p.QuantityUnit.ValueType, value: str) -> str:
    if unit == p.QUANTITY_UNIT_KWH:
        return f"{value} kWh"
    if unit == p.QUANTITY_UNIT_PIECE:
        return value
    minutes, seconds = divmod(Decimal(value), 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02}:{'0' if seconds < 10 else ''}{seconds}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
