"""Exact decimals: how they are computed with, read and written."""

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from evbridge.v1.pricing_pb2 import ROUNDING_LEVEL_UNSPECIFIED, ROUNDING_MODE_HALF_EVEN, Rounding
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal as DecimalMessage

ZERO = Decimal(0)
HOUR_S = Decimal(3600)
PERCENT = Decimal("0.01")
CONTEXT = Context(prec=100, rounding=ROUND_HALF_EVEN)
"""Wide enough for the product of a quantity, a price and a VAT of the contract's sizes; only quotients are cut."""

_ATOM = Decimal("1e-18")
_SUM = Decimal("1e-24")
_SHOWN = Decimal("1e-12")
_NANOS = 10**9
_NANO = Decimal("1e-9")


def number(message: DecimalMessage) -> Decimal:
    return Decimal(message.value)


def message(value: Decimal) -> DecimalMessage:
    """As it is shown: up to 12 decimals, none of them an idle zero."""
    return DecimalMessage(value=f"{value.quantize(_SHOWN).normalize() + ZERO:f}")


def seconds(time: Timestamp) -> Decimal:
    """Since 1970, to the nanosecond."""
    return Decimal(time.seconds) + time.nanos * _NANO


def timestamp(time: Decimal) -> Timestamp:
    whole, nanos = divmod(int(time * _NANOS), _NANOS)
    return Timestamp(seconds=whole, nanos=nanos)


def atom(quantity: Decimal) -> Decimal:
    """A part of a quantity in steps of 1e-18, in which parts add up to the whole without a rest."""
    return quantity.quantize(_ATOM)


def settled(total: Decimal) -> Decimal:
    """A sum without the last digits of quotients: three thirds are one."""
    return total.quantize(_SUM)


def stepped(quantity: Decimal, step: Decimal) -> Decimal:
    """Rounded up to whole steps."""
    return (quantity / step).to_integral_value(ROUND_CEILING) * step


class Rounder:
    """A rounding policy."""

    def __init__(self, rounding: Rounding) -> None:
        self.level = rounding.level
        self._exponent = Decimal(1).scaleb(-rounding.decimals)
        self._mode = ROUND_HALF_EVEN if rounding.mode == ROUNDING_MODE_HALF_EVEN else ROUND_HALF_UP

    def at(self, level: int, amount: Decimal) -> Decimal:
        """The amount, rounded when that is the policy's level."""
        return settled(amount).quantize(self._exponent, self._mode) if level == self.level else amount

    def message(self, amount: Decimal, *levels: int) -> DecimalMessage:
        """Amounts of a rounded level are shown with all their decimals."""
        if self.level == ROUNDING_LEVEL_UNSPECIFIED or self.level not in levels:
            return message(amount)
        return DecimalMessage(value=f"{amount.quantize(self._exponent, self._mode) + ZERO:f}")
