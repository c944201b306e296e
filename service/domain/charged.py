"""What was charged: to whom a session or a CDR concerns, and when a credit CDR takes another one back. Pure."""

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.pricing_pb2 import (
    CDR_DIMENSION_TYPE_CURRENT,
    CDR_DIMENSION_TYPE_ENERGY_EXPORT,
    CDR_DIMENSION_TYPE_ENERGY_IMPORT,
    CDR_DIMENSION_TYPE_POWER,
    CDR_DIMENSION_TYPE_STATE_OF_CHARGE,
)
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED, SESSION_STATUS_INVALID, Session
from google.type.decimal_pb2 import Decimal as DecimalText

from service.domain.content import etag_of
from service.domain.keys import ObjectKey, PartyKey, key_of
from service.errors import FieldViolation

SESSION_ONLY = frozenset(
    {
        CDR_DIMENSION_TYPE_CURRENT,
        CDR_DIMENSION_TYPE_ENERGY_EXPORT,
        CDR_DIMENSION_TYPE_ENERGY_IMPORT,
        CDR_DIMENSION_TYPE_POWER,
        CDR_DIMENSION_TYPE_STATE_OF_CHARGE,
    }
)
"""Dimensions that OCPI has in no CDR."""


def token_party(charged: Session | Cdr) -> PartyKey:
    """The eMSP that issued the token."""
    return PartyKey.of(charged.cdr_token.country_code, charged.cdr_token.party_id)


def has_ended(session: Session) -> bool:
    return session.status in (SESSION_STATUS_COMPLETED, SESSION_STATUS_INVALID)


def changes_ended(before: Session, after: Session) -> bool:
    """Whether a session that has ended would say something else. Whom it goes to is no part of it.

    Source: OCPI 2.2.1, sessions, SessionStatus.
    """
    if not has_ended(before):
        return False
    same = Session()
    same.CopyFrom(after)
    same.recipient_integration_id = before.recipient_integration_id
    return etag_of(same) != etag_of(before)


def credited(cdr: Cdr) -> ObjectKey | None:
    """The CDR that a credit CDR takes back."""
    if not cdr.credit:
        return None
    key = key_of(cdr)
    return ObjectKey.of(*key.party, cdr.credit_reference_id, key.integration_id)


def cdr_violations(cdr: Cdr) -> Iterator[FieldViolation]:
    """What the contract's rules do not say of a CDR of ours. One that was received may break it."""
    for p, period in enumerate(cdr.charging_periods):
        for d, dimension in enumerate(period.dimensions):
            if dimension.type in SESSION_ONLY:
                path = f"charging_periods[{p}].dimensions[{d}].type"
                yield FieldViolation(path, "is one that OCPI has for sessions only")
    if cdr.credit and not cdr.credit_reference_id:
        yield FieldViolation("credit_reference_id", "is required of a credit CDR: the id of the CDR that it takes back")
    if cdr.credit_reference_id and not cdr.credit:
        yield FieldViolation("credit", "must be true with a credit_reference_id")
    if not cdr.credit and len(cdr.id) > 36:
        yield FieldViolation("id", "must be up to 36 characters, but for a credit CDR")


def credit_violations(credit: Cdr, taken_back: Cdr) -> Iterator[FieldViolation]:
    """Where the credit CDR does not take back what the other one costs."""
    if credit.currency != taken_back.currency:
        yield FieldViolation("currency", f"is not that of the CDR that it takes back, {taken_back.currency}")
    for name in ("excl_vat", "incl_vat"):
        wanted, stated = (_number(getattr(cdr.total_cost, name)) for cdr in (taken_back, credit))
        if wanted != (None if stated is None else -stated):
            negated = "unset" if wanted is None else f"{-wanted:f}"
            yield FieldViolation(
                f"total_cost.{name}", f"must be that of the CDR that it takes back, negated: {negated}"
            )


def _number(text: DecimalText) -> Decimal | None:
    try:
        return Decimal(text.value) if text.value else None
    except InvalidOperation:
        return None
