"""Priced and unpriced stretches of a session: step_size once per session, their amounts, and the sums of those."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from evbridge.v1.types_pb2 import Price

from service.domain.pricing.numbers import HOUR_S, PERCENT, ZERO, Rounder, message, settled, stepped, timestamp
from service.domain.pricing.tariff import Component, conditions, type_name

_WH = Decimal("0.001")
_ONE = Decimal(1)
UNITS = {
    p.COST_CATEGORY_FIXED: p.QUANTITY_UNIT_PIECE,
    p.COST_CATEGORY_ENERGY: p.QUANTITY_UNIT_KWH,
    p.COST_CATEGORY_TIME: p.QUANTITY_UNIT_SECOND,
    p.COST_CATEGORY_PARKING: p.QUANTITY_UNIT_SECOND,
    p.COST_CATEGORY_RESERVATION: p.QUANTITY_UNIT_SECOND,
}
Category: TypeAlias = "p.CostCategory.ValueType"
Unit: TypeAlias = "p.QuantityUnit.ValueType"


@dataclass(slots=True, eq=False)
class Line:
    """A priced stretch of the session while it grows."""

    category: Category
    unit: Unit
    component: Component
    unit_price: Decimal
    start: Decimal
    end: Decimal
    quantity: Decimal
    billed: Decimal = ZERO
    step_size: int = 0

    @property
    def has_vat(self) -> bool:
        """Its amount with taxes is one of its own."""
        return self.component.vat is not None or self.component.with_taxes


@dataclass(slots=True, eq=False)
class Gap:
    """An unpriced stretch of the session while it grows."""

    category: Category
    reason: str
    start: Decimal
    end: Decimal
    quantity: Decimal


def step_up(lines: Iterable[Line]) -> None:
    """step_size, once for each energy type, for parking or else charging time, and for the reservation's time."""
    groups: dict[tuple[Category, int], list[Line]] = {}
    for line in lines:
        line.billed = line.quantity
        if line.unit != p.QUANTITY_UNIT_PIECE:
            groups.setdefault((line.category, line.component.type), []).append(line)
    if any(category == p.COST_CATEGORY_PARKING for category, _ in groups):
        groups.pop((p.COST_CATEGORY_TIME, t.TARIFF_DIMENSION_TYPE_TIME), None)
    for group in groups.values():
        last = group[-1]
        total = sum((line.quantity for line in group), ZERO)
        if total > 0 and (step := last.component.step_size):
            unit = _WH if last.unit == p.QUANTITY_UNIT_KWH else _ONE
            last.billed += stepped(total, step * unit) - total
            last.step_size = step


Cost: TypeAlias = "tuple[Decimal | None, Decimal]"
"""Without and with VAT. Without is None when a price holds taxes at a rate that is not known."""


def cost_of(line: Line, rounder: Rounder) -> Cost:
    """VAT that is absent adds nothing."""
    vat = line.component.vat
    amount = line.billed * line.unit_price
    if line.unit == p.QUANTITY_UNIT_SECOND:
        amount /= HOUR_S
    excl: Decimal | None = amount
    incl = amount + amount * vat * PERCENT if vat is not None else amount
    if line.component.with_taxes:
        excl, incl = None if vat is None and amount else amount / (1 + (vat or ZERO) * PERCENT), amount
    return None if excl is None else rounder.at(p.ROUNDING_LEVEL_LINE, excl), rounder.at(p.ROUNDING_LEVEL_LINE, incl)


def sums(costs: Iterable[Cost]) -> Cost:
    excl: Decimal | None = ZERO
    incl = ZERO
    for without, with_vat in costs:
        excl = None if excl is None or without is None else excl + without
        incl += with_vat
    return None if excl is None else settled(excl), settled(incl)


def _price(excl: Decimal | None, incl: Decimal | None, rounder: Rounder, *levels: int) -> Price:
    levels = levels or (p.ROUNDING_LEVEL_LINE, p.ROUNDING_LEVEL_TOTAL)
    return Price(
        excl_vat=None if excl is None else rounder.message(excl, *levels),
        incl_vat=None if incl is None else rounder.message(incl, *levels),
    )


def rounded_total(excl: Decimal | None, incl: Decimal | None, rounder: Rounder) -> Price:
    rounded = [None if side is None else rounder.at(p.ROUNDING_LEVEL_TOTAL, side) for side in (excl, incl)]
    return _price(rounded[0], rounded[1], rounder)


def totals(lines: Sequence[Line], costs: Sequence[Cost], rounder: Rounder) -> list[p.CategoryTotal]:
    totals = []
    for category in sorted({line.category for line in lines}):
        mine = [(line, cost) for line, cost in zip(lines, costs, strict=True) if line.category == category]
        excl, incl = sums(cost for _, cost in mine)
        has_vat = any(line.has_vat for line, _ in mine)
        total = rounded_total(excl, incl if has_vat else None, rounder)
        totals.append(p.CategoryTotal(category=category, cost=total))
    return totals


def shown(line: Line, cost: Cost, rounder: Rounder) -> p.QuoteLine:
    component = line.component
    vat = component.vat
    return p.QuoteLine(
        category=line.category,
        component=component.path,
        type=type_name(component.type),
        start_date_time=timestamp(line.start),
        end_date_time=timestamp(line.end),
        unit=line.unit,
        quantity=message(line.quantity),
        billed_quantity=message(line.billed),
        step_size=line.step_size,
        unit_price=message(line.unit_price),
        vat=None if vat is None else message(vat),
        cost=_price(cost[0], cost[1] if line.has_vat else None, rounder, p.ROUNDING_LEVEL_LINE),
        conditions=conditions(component.element.restrictions),
        tariff_id=component.element.tariff_id,
    )


def unpriced(gap: Gap) -> p.UnpricedConsumption:
    return p.UnpricedConsumption(
        category=gap.category,
        start_date_time=timestamp(gap.start),
        end_date_time=timestamp(gap.end),
        unit=UNITS[gap.category],
        quantity=message(gap.quantity),
        reason=gap.reason,
    )
