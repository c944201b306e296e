"""What CDRs add up to, and what does not add up. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from evbridge.v1.cdr_pb2 import CDR_AUDIT_STATE_DIFFERENT, CDR_AUDIT_STATE_EQUAL, Cdr, CdrKey
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, PEER_OBJECT_STATE_UNKNOWN, DeliveryState
from evbridge.v1.error_reason_pb2 import PARTNER_OUTCOME_UNKNOWN
from evbridge.v1.reconciliation_pb2 import (
    RECONCILIATION_REASON_CDR_INVOICED_TWICE,
    RECONCILIATION_REASON_CDR_NOT_DELIVERED,
    RECONCILIATION_REASON_CDR_OUTCOME_UNKNOWN,
    RECONCILIATION_REASON_CDR_WITHOUT_SESSION,
    RECONCILIATION_REASON_CREDIT_PAIR,
    RECONCILIATION_REASON_CREDIT_UNMATCHED,
    RECONCILIATION_REASON_PRICE_DIFFERENT,
    RECONCILIATION_REASON_PRICE_NOT_AUDITED,
    RECONCILIATION_REASON_SESSION_WITHOUT_CDR,
    RECONCILIATION_SIDE_RECEIVED,
    RECONCILIATION_SIDE_SENT,
    ReconciliationFinding,
    ReconciliationReason,
    ReconciliationSide,
    ReconciliationTotal,
)
from evbridge.v1.session_pb2 import Session, SessionKey
from evbridge.v1.types_pb2 import Price
from google.type.decimal_pb2 import Decimal as DecimalText

from service.domain.charged import credit_violations, token_party
from service.domain.keys import OURS
from service.domain.pricing.numbers import CONTEXT, ZERO, message, number

_MOST_TOTALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """A stored CDR, with what it has to agree with. `invoices` are the folded ids of those that are about it."""

    cdr: Cdr
    has_session: bool = True
    original: Cdr | None = None
    credits: int = 0
    delivery_state: DeliveryState.ValueType = DELIVERY_STATE_DELIVERED
    outcome_unknown: bool = False
    invoices: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        payload: bytes,
        has_session: bool,
        original: bytes | None,
        credits: int,
        delivery_state: DeliveryState.ValueType,
        delivery_reason: int,
        peer_state: int,
        *,
        invoices: Sequence[str] = (),
    ) -> "Held":
        unknown = peer_state == PEER_OBJECT_STATE_UNKNOWN or delivery_reason == PARTNER_OUTCOME_UNKNOWN
        before = None if original is None else Cdr.FromString(original)
        return cls(Cdr.FromString(payload), has_session, before, credits, delivery_state, unknown, invoices)


def cdr_findings(held: Held) -> Iterator[ReconciliationFinding]:
    cdr = held.cdr
    if not held.has_session:
        yield _of_cdr(cdr, RECONCILIATION_REASON_CDR_WITHOUT_SESSION, "the session that it bills is not stored")
    if cdr.credit_reference_id:
        yield _credit(held)
    if len(held.invoices) > 1:
        why = f"{len(held.invoices)} invoices are about it: {', '.join(held.invoices)}"
        yield _of_cdr(cdr, RECONCILIATION_REASON_CDR_INVOICED_TWICE, why)
    if cdr.integration_id == OURS:
        yield from _sent(held)
    if cdr.integration_id != OURS or cdr.HasField("audit"):
        yield from _audited(cdr)


def session_finding(session: Session) -> ReconciliationFinding:
    """Of one that no CDR bills."""
    found = ReconciliationFinding(
        reason=RECONCILIATION_REASON_SESSION_WITHOUT_CDR,
        side=_side(session),
        session=_session_key(session, session.id),
        start_date_time=session.start_date_time,
        currency=session.currency,
        description=f"ended well after {session.kwh.value or 0} kWh, and no CDR bills it",
    )
    if session.HasField("total_cost"):
        found.total_cost.CopyFrom(session.total_cost)
    return found


def _credit(held: Held) -> ReconciliationFinding:
    cdr, original = held.cdr, held.original
    if original is None:
        why = "the CDR that it takes back is not stored"
    elif held.credits > 1:
        why = f"{held.credits} credit CDRs take back the same CDR"
    else:
        why = "; ".join(f"{each.path} {each.description}" for each in credit_violations(cdr, original))
    reason = RECONCILIATION_REASON_CREDIT_UNMATCHED if why else RECONCILIATION_REASON_CREDIT_PAIR
    found = _of_cdr(cdr, reason, why or "takes back the other CDR whole")
    found.credited_cdr.CopyFrom(_cdr_key(cdr, cdr.credit_reference_id))
    return found


def _sent(held: Held) -> Iterator[ReconciliationFinding]:
    if held.delivery_state == DELIVERY_STATE_DELIVERED:
        return
    if held.outcome_unknown:
        reason, why = RECONCILIATION_REASON_CDR_OUTCOME_UNKNOWN, "was sent, and whether the partner has it is not known"
    elif held.delivery_state:
        reason, why = RECONCILIATION_REASON_CDR_NOT_DELIVERED, "the partner has not acknowledged it"
    else:
        reason, why = RECONCILIATION_REASON_CDR_NOT_DELIVERED, "was never on its way: models.push_cdr is not set"
    found = _of_cdr(held.cdr, reason, why)
    found.delivery_state = held.delivery_state
    yield found


def _audited(cdr: Cdr) -> Iterator[ReconciliationFinding]:
    audit = cdr.audit
    if audit.state == CDR_AUDIT_STATE_EQUAL:
        return
    if audit.state != CDR_AUDIT_STATE_DIFFERENT:
        why = audit.description or "its audit is still to come"
        yield _of_cdr(cdr, RECONCILIATION_REASON_PRICE_NOT_AUDITED, why)
        return
    why = "costs something else than its periods and tariff make"
    if cdr.integration_id == OURS:
        why = "costs something else than the system charged that its session was imported from"
    found = _of_cdr(cdr, RECONCILIATION_REASON_PRICE_DIFFERENT, why)
    found.computed_cost.CopyFrom(audit.computed_cost)
    found.differences.extend(audit.differences)
    yield found


def _of_cdr(cdr: Cdr, reason: ReconciliationReason.ValueType, description: str) -> ReconciliationFinding:
    return ReconciliationFinding(
        reason=reason,
        side=_side(cdr),
        cdr=_cdr_key(cdr, cdr.id),
        session=_session_key(cdr, cdr.session_id) if cdr.session_id else None,
        start_date_time=cdr.start_date_time,
        currency=cdr.currency,
        total_cost=cdr.total_cost,
        description=description,
    )


def _side(charged: Session | Cdr) -> ReconciliationSide.ValueType:
    return RECONCILIATION_SIDE_SENT if charged.integration_id == OURS else RECONCILIATION_SIDE_RECEIVED


def _cdr_key(cdr: Cdr, id: str) -> CdrKey:
    return CdrKey(country_code=cdr.country_code, party_id=cdr.party_id, id=id, integration_id=cdr.integration_id)


def _session_key(of: Session | Cdr, id: str) -> SessionKey:
    return SessionKey(country_code=of.country_code, party_id=of.party_id, id=id, integration_id=of.integration_id)


@dataclass(slots=True)
class _Sum:
    cdrs: int = 0
    credits: int = 0
    without_vat: int = 0
    invoiced: int = 0
    excl: Decimal = ZERO
    incl: Decimal = ZERO
    energy: Decimal = ZERO

    def add(self, cdr: Cdr, *, invoiced: bool) -> None:
        self.cdrs += 1
        self.invoiced += invoiced
        self.credits += cdr.credit
        self.without_vat += not cdr.total_cost.incl_vat.value
        self.excl = CONTEXT.add(self.excl, _number(cdr.total_cost.excl_vat))
        self.incl = CONTEXT.add(self.incl, _number(cdr.total_cost.incl_vat))
        energy = _number(cdr.total_energy)
        self.energy = CONTEXT.add(self.energy, -abs(energy) if cdr.credit else energy)


class Totals:
    """Sums by side, currency, operator, provider and tariffs: no more of them than `most`, and one for each other."""

    def __init__(self, most: int = _MOST_TOTALS) -> None:
        self._most = most
        self._sums: dict[tuple[int, str, str, str, str, str, tuple[str, ...], bool], _Sum] = {}

    def add(self, cdr: Cdr, *, invoiced: bool = False) -> None:
        whose = (_side(cdr), cdr.currency, cdr.country_code, cdr.party_id, *token_party(cdr))
        key = (*whose, _tariffs(cdr), False)
        if key not in self._sums and len(self._sums) >= self._most:
            key = (*whose, (), True)
        self._sums.setdefault(key, _Sum()).add(cdr, invoiced=invoiced)

    def messages(self) -> Iterator[ReconciliationTotal]:
        for (side, currency, country, party, token_country, provider, tariffs, other), total in sorted(
            self._sums.items(), key=lambda item: item[0]
        ):
            cost = Price(excl_vat=message(total.excl))
            if not total.without_vat:
                cost.incl_vat.CopyFrom(message(total.incl))
            yield ReconciliationTotal(
                side=ReconciliationSide.Name(side),  # type: ignore[arg-type]
                currency=currency,
                country_code=country,
                party_id=party,
                token_country_code=token_country,
                token_party_id=provider,
                tariff_ids=tariffs,
                other_tariffs=other,
                cdr_count=total.cdrs,
                credit_count=total.credits,
                total_cost=cost,
                without_vat_count=total.without_vat,
                total_energy=message(total.energy),
                invoiced_count=total.invoiced,
            )


def _tariffs(cdr: Cdr) -> tuple[str, ...]:
    named = {each.tariff_id for each in cdr.charging_periods if each.tariff_id} or {each.id for each in cdr.tariffs}
    return tuple(sorted({id.casefold(): id for id in sorted(named)}.values()))


def _number(text: DecimalText) -> Decimal:
    return number(text) if text.value else ZERO
