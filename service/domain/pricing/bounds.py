"""The least and the most that a session costs under its tariff."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from evbridge.v1 import pricing_pb2 as p

from service.domain.pricing.lines import Cost, Line
from service.domain.pricing.numbers import PERCENT, message, number, settled
from service.domain.pricing.tariff import Compiled


class Bounded(NamedTuple):
    """A total within the tariff's bounds. `incl` is None when nothing says what VAT there is."""

    excl: Decimal | None
    incl: Decimal | None
    clamps: list[p.Clamp]
    notices: list[str]


def bounded(tariff: Compiled, lines: Sequence[Line], total: Cost, *, expired: bool) -> Bounded:
    """The bounds of 2.1.1 are none. An expired reservation has no minimum."""
    (excl, incl), clamps, notices = total, list[p.Clamp](), list[str]()
    has_vat = any(line.has_vat for line in lines)
    for name, bound, inclusive in _bounds(tariff, lines, notices, expired):
        before = incl if inclusive else excl
        if before is None:
            continue
        after = max(before, bound) if name.startswith("min") else min(before, bound)
        if after == before:
            continue
        excl, incl = (excl, after) if inclusive else (after, incl)
        if not inclusive or has_vat or name.endswith("incl_vat"):
            clamps.append(p.Clamp(bound=name, before=message(before), after=message(after), with_vat=inclusive))
    return Bounded(excl, incl if has_vat or incl != excl else None, clamps, notices)


def _bounds(
    tariff: Compiled, lines: Sequence[Line], notices: list[str], expired: bool
) -> Iterator[tuple[str, Decimal, bool]]:
    """(name, amount, whether it bounds the amount with VAT). The minimum comes first."""
    source = tariff.source
    if tariff.is_2_1_1:
        return
    for name, bound in (("min_price", source.min_price), ("max_price", source.max_price)):
        if source.HasField(name) and not (name == "min_price" and expired):  # type: ignore[arg-type]
            yield f"{name}.excl_vat", number(bound.excl_vat), False
            if bound.HasField("incl_vat"):
                yield f"{name}.incl_vat", number(bound.incl_vat), True
            else:
                yield from _bound_with_vat(name, number(bound.excl_vat), lines, notices)


def _bound_with_vat(
    name: str, bound: Decimal, lines: Sequence[Line], notices: list[str]
) -> Iterator[tuple[str, Decimal, bool]]:
    """What a bound without VAT means for the amount with it."""
    rates = {line.component.vat for line in lines if line.unit_price}
    if not any(line.has_vat for line in lines):
        yield f"{name}.excl_vat", bound, True
    elif any(line.component.with_taxes and line.component.vat is None for line in lines):
        notices.append(f"{name} says no amount with taxes, and their rate is not known: it was not applied")
    elif len(rates) == 1 and (rate := rates.pop()) is not None:
        bound = settled(bound + bound * rate * PERCENT)
        notices.append(
            f"{name} says no amount with VAT: {message(bound).value} follows from the session's VAT of {rate:f} %"
        )
        yield f"{name}.excl_vat", bound, True
    else:
        notices.append(f"{name} says no amount with VAT, and the session has no one rate: it bounds both amounts")
        yield f"{name}.excl_vat", bound, True
