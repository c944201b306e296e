"""The work of PricingService, from a request that holds all it needs to the answer.

What it takes is known from counts before it is begun. It runs where it is asked to: here, or in a process of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

from evbridge.v1 import pricing_pb2 as p
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.pricing.audit import audit, session_of_cdr
from service.domain.pricing.budget import MAX_US, Budget, OverBudget
from service.domain.pricing.clock import zone_of
from service.domain.pricing.lint import lint
from service.domain.pricing.numbers import number
from service.domain.pricing.quote import check, prepared, quote, session_of
from service.domain.pricing.session import LAST_S, OUT_OF_RANGE
from service.domain.pricing.tariff import Compiled
from service.domain.status import status_of
from service.errors import EvbridgeError, InvalidArgument

_TOLERANCE = Decimal("0.005")
_SMALL_US = 5_000
_US, _US_PER_PERIOD, _US_PER_BYTE = 100, 20, 0.6
"""Any job, reading a period, and reading a byte of the rest: an element with one price takes 30 of them."""


class Priced(Protocol):
    """A request with a session in one of its two forms."""

    @property
    def plan(self) -> p.SessionPlan: ...

    @property
    def periods(self) -> p.SessionPeriods: ...

    def HasField(self, field_name: Literal["plan"], /) -> bool: ...


def start_of(request: Priced) -> Timestamp:
    """When the session starts, without a look at the rest of it. Raises InvalidArgument for a time that none has."""
    if request.HasField("plan"):
        return _earliest([request.plan.start_date_time], "plan")
    return _earliest([period.start_date_time for period in request.periods.charging_periods], "periods")


def start_of_cdr(cdr: p.AuditedCdr) -> Timestamp:
    """The same, of a CDR."""
    return _earliest([period.start_date_time for period in cdr.charging_periods], "cdr")


def _earliest(starts: Sequence[Timestamp], path: str) -> Timestamp:
    first = min(starts, key=lambda start: (start.seconds, start.nanos))
    if not 0 <= first.seconds <= LAST_S:
        raise InvalidArgument.field(path, OUT_OF_RANGE)
    return first


def _price(request: p.QuotePriceRequest, budget: Budget) -> p.Quote:
    tariff = Compiled.of(request.tariff, request.options)
    return quote(tariff, session_of(request), request.options, budget=budget)


def _compare(request: p.CompareTariffsRequest, budget: Budget) -> p.CompareTariffsResponse:
    """The cheapest first. What is wrong with one tariff stands in its result; a result without a tariff is left out.

    What they take together is known before the first is priced.
    """
    check(request.options)
    session, results = session_of(request), list[p.ComparedQuote]()
    quotes = dict[int, Callable[[], p.Quote]]()
    for index, source in enumerate(request.tariffs):
        if source.HasField("tariff"):
            results.append(p.ComparedQuote(index=index))
            with _failing_alone(results[-1]):
                compiled = Compiled.of(source.tariff, request.options)
                quotes[index] = prepared(compiled, session, request.options, budget=budget)
    for result in results:
        if result.index in quotes:
            with _failing_alone(result):
                result.quote.CopyFrom(quotes[result.index]())
    return p.CompareTariffsResponse(results=sorted(results, key=_rank))


@contextmanager
def _failing_alone(result: p.ComparedQuote) -> Iterator[None]:
    """An error stands in the result, unless it is one of all of them together."""
    try:
        yield
    except OverBudget:
        raise
    except EvbridgeError as error:
        result.error.CopyFrom(status_of(error))


def _rank(result: p.ComparedQuote) -> tuple[bool, str, Decimal, int]:
    """By currency, then by what the driver pays; what could not be priced comes last."""
    if result.HasField("error"):
        return True, "", Decimal(), result.index
    total = result.quote.total_cost
    paid = total.incl_vat if total.HasField("incl_vat") else total.excl_vat
    return False, result.quote.currency, number(paid), result.index


def _lint(request: p.LintTariffRequest, budget: Budget) -> p.LintTariffResponse:
    zone = zone_of(request.time_zone, "time_zone") if request.time_zone else None
    compiled = Compiled(request.tariff, request.ocpi_version, request.whole_elements)
    return p.LintTariffResponse(findings=lint(compiled, zone, datetime.now(UTC), budget))


def _audit(request: p.AuditCdrRequest, budget: Budget) -> p.AuditCdrResponse:
    """With the tariffs that the CDR's periods name, in that order, or the one for all of them."""
    tolerance = number(request.tolerance) if request.HasField("tolerance") else _TOLERANCE
    session = session_of_cdr(request.cdr)
    found, differences, others = audit(request.cdr, session, request.tariffs, request.options, tolerance, budget)
    return p.AuditCdrResponse(quote=found, differences=differences, other_readings=others)


class _Job(NamedTuple):
    request: type[Message]
    work: Callable[[Any, Budget], Message]
    periods: Callable[[Any], int]


_JOBS = {
    "QuotePrice": _Job(p.QuotePriceRequest, _price, lambda request: len(request.periods.charging_periods)),
    "CompareTariffs": _Job(p.CompareTariffsRequest, _compare, lambda request: len(request.periods.charging_periods)),
    "LintTariff": _Job(p.LintTariffRequest, _lint, lambda request: 0),
    "AuditCdr": _Job(p.AuditCdrRequest, _audit, lambda request: len(request.cdr.charging_periods)),
}


def run(name: str, payload: bytes) -> bytes:
    """The serialized answer of the rpc of that name to a serialized request. Raises InvalidArgument."""
    job = _JOBS[name]
    request = job.request.FromString(payload)
    return job.work(request, Budget(MAX_US - _us_to_read(job, request))).SerializeToString()


def run_if_small(name: str, request: Message) -> bytes | None:
    """The same, when it takes a few milliseconds at most, else None.

    Raises InvalidArgument, also for what would not be computed anywhere.
    """
    job = _JOBS[name]
    us = _us_to_read(job, request)
    Budget().spend(us, "request", "holds more than can be priced at once: ask for less")
    if us > _SMALL_US:
        return None
    try:
        return job.work(request, Budget(_SMALL_US - us)).SerializeToString()
    except OverBudget:
        return None


def _us_to_read(job: _Job, request: Message) -> float:
    return _US + _US_PER_BYTE * request.ByteSize() + _US_PER_PERIOD * job.periods(request)
