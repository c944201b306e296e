"""Quotes a second on one core: a simple tariff for a plan, and a complex one for a session of many periods."""

import timeit
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from time import process_time

from evbridge.v1 import pricing_pb2 as p
from evbridge.v1 import tariff_pb2 as t
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from service.domain.pricing.quote import quoted

ROUNDS = 9
CALLS = 200
OPTIONS = p.PricingOptions(time_zone="Europe/Berlin")
START = datetime(2026, 6, 1, 14, 20, tzinfo=UTC)


def report() -> None:
    requests = {"simple": _simple(), "complex": _complex()}
    print(f"\nQuotes, compiled from the messages each time: median of {ROUNDS} rounds, by processor time\n")
    print(f"{'':9}{'quotes/s':>9}{'us':>7}{'elements':>10}{'periods':>9}{'lines':>7}")
    for name, request in requests.items():
        quote = quoted(request.tariff, request, OPTIONS)
        us = median(_cpu_us(request) for _ in range(ROUNDS))
        periods = len(request.periods.charging_periods) or 1
        print(f"{name:9}{1e6 / us:9.0f}{us:7.0f}{len(request.tariff.elements):10}{periods:9}{len(quote.lines):7}")


def _cpu_us(request: p.QuotePriceRequest) -> float:
    """Processor time of a quote: others may use the machine meanwhile."""
    price = partial(quoted, request.tariff, request, OPTIONS)
    return timeit.timeit(price, number=CALLS, timer=process_time) / CALLS * 1e6


def _simple() -> p.QuotePriceRequest:
    """A fee and a price per kWh; 20 kWh in an hour."""
    tariff = _tariff(t.TariffElement(price_components=[_component(2, "0.50", 1), _component(1, "0.25", 1)]))
    plan = p.SessionPlan(start_date_time=_at(0), energy=Decimal(value="20"), charging_s=3600)
    return p.QuotePriceRequest(tariff=tariff, plan=plan)


def _complex() -> p.QuotePriceRequest:
    """Twelve elements with every kind of restriction; three hours in 5-minute periods across two price changes."""
    days = [t.TariffRestrictions(start_time=f"{hour:02}:00", end_time=f"{hour + 4:02}:00") for hour in (4, 8, 12, 16)]
    bands = [t.TariffRestrictions(max_kwh=Decimal(value=str(limit))) for limit in (10, 25)]
    powers = [t.TariffRestrictions(max_power=Decimal(value=str(limit))) for limit in (11, 22)]
    stays = [t.TariffRestrictions(min_duration=seconds) for seconds in (14_400, 9_000)]
    elements = [
        *(t.TariffElement(price_components=[_component(4, "1.20", 60)], restrictions=each) for each in (*stays, *days)),
        *(
            t.TariffElement(price_components=[_component(1, "0.45", 10)], restrictions=each)
            for each in (*bands, *powers)
        ),
        t.TariffElement(
            price_components=[_component(3, "6.00", 300)],
            restrictions=t.TariffRestrictions(day_of_week=[1, 2, 3, 4, 5]),
        ),
        t.TariffElement(price_components=[_component(kind, "0.55", 1) for kind in (1, 2, 3, 4)]),
    ]
    periods = []
    for number in range(36):
        volumes = {2: "1.2", 8: "14.4", 14: "0.0833"} if number < 30 else {10: "0.0833"}
        dimensions = [p.CdrDimension(type=kind, volume=Decimal(value=text)) for kind, text in volumes.items()]
        periods.append(p.ChargingPeriod(start_date_time=_at(number * 5), dimensions=dimensions))
    session = p.SessionPeriods(charging_periods=periods, end_date_time=_at(180))
    return p.QuotePriceRequest(tariff=_tariff(*elements), periods=session)


def _tariff(*elements: t.TariffElement) -> t.Tariff:
    return t.Tariff(country_code="DE", party_id="ABC", id="T", currency="EUR", elements=elements)


def _component(kind: int, price: str, step_size: int) -> t.PriceComponent:
    return t.PriceComponent(type=kind, price=Decimal(value=price), vat=Decimal(value="19"), step_size=step_size)


def _at(minutes: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(START + timedelta(minutes=minutes))
    return stamp
