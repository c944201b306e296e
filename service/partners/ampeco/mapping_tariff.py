"""AMPECO: our tariffs in its form and back. A tariff that would have other prices there is refused, not rounded."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final

from evbridge.partner.ampeco.v3 import tariff_pb2
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.tariff_pb2 import PriceComponent, Tariff, TariffDimensionType, TariffUseType
from google.protobuf.message import Message

from service.domain.mapping import Loss, Mapped, mapped
from service.errors import FieldViolation, TariffNotRepresentable
from service.partners.ampeco.mapping import LOCALE, external_id, set_key, time_of

_FLAT: Final = TariffDimensionType.TARIFF_DIMENSION_TYPE_FLAT
_PRICES: Final = {
    "price_per_session": _FLAT,
    "connection_fee": _FLAT,
    "price_per_kwh": TariffDimensionType.TARIFF_DIMENSION_TYPE_ENERGY,
    "price_per_period": TariffDimensionType.TARIFF_DIMENSION_TYPE_TIME,
    "idle_fee_per_minute": TariffDimensionType.TARIFF_DIMENSION_TYPE_PARKING_TIME,
}
# The field of a dimension where all four may stand.
_FIELDS: Final = {dimension: name for name, dimension in _PRICES.items()}
# The types of tariffs that are read, and the prices that count in them; others depend on what OCPI does not know.
_TYPES: Final = {
    "free": (),
    "flat rate": ("price_per_session",),
    "standard": tuple(_FIELDS.values()),
    "duration+energy": tuple(_FIELDS.values()),
}
# Parts of a pricing that are read beside the prices, or change none.
_BESIDE: Final = ("min_price", "price_period_in_minutes", "tax_id", "pre_authorize_amount", "optimised_label")
# What says who pays, or when, or adds to it. An unknown member may.
_BINDING: Final = {"type", "max_price", "start_date_time", "end_date_time"}
_BINDING_THERE: Final = {"day_tariff_start", "night_tariff_start", "restrictions", "integration_id", "more"}
_COMPONENT: Final = {"type", "price", "vat", "step_size"}
_NO_PLACE: Final = "the other side has no place for it"
_TARIFF: Final = {"external_id": "Its place is taken by our own key."}


@dataclass(frozen=True, slots=True)
class Billing:
    """What an operator has set in AMPECO and a tariff there leaves out: the currency and the taxes.

    `taxes` gives the id of the tax for a VAT in percent, and for None where no VAT applies.
    """

    currency: str
    taxes: Mapping[Decimal | None, int] = field(default_factory=dict)


def billing_of(integration: Integration) -> Billing:
    connection = integration.ampeco
    taxes = {Decimal(tax.vat.value) if tax.HasField("vat") else None: tax.tax_id for tax in connection.taxes}
    return Billing(connection.currency, taxes)


class _Refused(list[FieldViolation]):
    """What would change a price."""

    def add(self, path: str, description: str = _NO_PLACE) -> None:
        self.append(FieldViolation(path, description))

    def add_set(self, message: Message, prefix: str, named: Collection[str] = (), others: bool = False) -> None:
        """The fields that are set and named; with `others` those that are set and not named."""
        for listed, _ in message.ListFields():
            if (listed.name in named) != others:
                self.add(prefix + listed.name)

    def check(self, id: str) -> None:
        if self:
            raise TariffNotRepresentable.at(self, "the tariff would have other prices there", partner="ampeco", id=id)


def tariff_to(tariff: Tariff, billing: Billing) -> Mapped[tariff_pb2.Tariff]:
    """One of ours as a whole tariff of AMPECO's: a fee per session, per kWh, per period and per idle minute.

    Raises TariffNotRepresentable, naming the fields, when a price would change: another currency or VAT, restrictions,
    a price of more than 5 decimals, or a block that AMPECO does not bill in. A meter counts whole Wh, so a block of
    1 Wh is none.
    """
    refused, shadowed, vats = _Refused(), list[Loss](), dict[str, Decimal | None]()
    sent = _words_to(tariff)
    pricing = sent.pricing
    refused.add_set(tariff, "", _BINDING)
    if tariff.currency != billing.currency:
        refused.add("currency", "AMPECO's operator has another")
    if tariff.use_type not in (TariffUseType.TARIFF_USE_TYPE_UNSPECIFIED, TariffUseType.TARIFF_USE_TYPE_PRICE):
        refused.add("use_type", "its amounts are not prices")
    if tariff.HasField("min_price"):
        refused.add_set(tariff.min_price, "min_price.", ("incl_vat",))
        _set_price(pricing, "min_price", Fraction(tariff.min_price.excl_vat.value), "min_price.excl_vat", refused)
    for e, element in enumerate(tariff.elements):
        refused.add_set(element.restrictions, f"elements[{e}].restrictions.", others=True)
        for c, component in enumerate(element.price_components):
            path = f"elements[{e}].price_components[{c}]"
            name = _FIELDS.get(component.type)
            if name is None:
                refused.add(f"{path}.type")
            elif name in vats:
                shadowed.append(Loss(path, "An earlier element prices the same."))
            else:
                refused.add_set(component, f"{path}.", _COMPONENT, others=True)
                vats[name] = Decimal(component.vat.value) if component.HasField("vat") else None
                if len(set(vats.values())) > 1 or vats[name] not in billing.taxes:
                    refused.add(f"{path}.vat", "AMPECO's operator has no one tax for it")
                _price_to(component, pricing, name, path, refused)
    if not vats:
        refused.add("elements", "it has no price")
    refused.check(tariff.id)
    pricing.tax_id = billing.taxes[next(iter(vats.values()))]
    if {*vats, "min_price"} & {listed.name for listed, _ in pricing.ListFields()} == {"connection_fee"}:
        sent.type = "flat rate"
        pricing.price_per_session.CopyFrom(pricing.connection_fee)
        pricing.ClearField("connection_fee")
    done = mapped(tariff, sent, _words_from(sent), _TARIFF, apart=("elements", "currency", "min_price", "etag"))
    return Mapped(sent, (*done.losses, *shadowed))


def tariff_from(tariff: tariff_pb2.Tariff, billing: Billing) -> Mapped[Tariff]:
    """AMPECO's as one of ours; without a party unless its external id is a key of ours.

    Raises TariffNotRepresentable, naming AMPECO's fields, when something that changes a price has no place here.
    """
    refused, remote = _Refused(), tariff_pb2.Tariff()
    remote.CopyFrom(tariff)
    _clear_zeros(remote)
    ours, pricing = _words_from(remote), remote.pricing
    ours.currency = remote.currency or billing.currency
    if remote.type not in _TYPES:
        refused.add("type")
    refused.add_set(remote, "", _BINDING_THERE)
    names = _TYPES.get(remote.type, ())
    refused.add_set(pricing, "pricing.", (*names, *_BESIDE), others=True)
    vats = {tax_id: vat for vat, tax_id in billing.taxes.items()}
    if remote.type != "free" and pricing.tax_id not in vats:
        refused.add("pricing.tax_id", "the VAT of this tax is not known")
    if pricing.HasField("min_price"):
        ours.min_price.excl_vat.CopyFrom(pricing.min_price)
    components = ours.elements.add().price_components
    for name in names:
        if pricing.HasField(name):  # type: ignore[arg-type]
            component = components.add(type=_PRICES[name], step_size=1)
            _price_from(component, pricing, name, refused)
            if (vat := vats.get(pricing.tax_id)) is not None:
                component.vat.value = f"{vat:f}"
    if remote.type == "free":
        components.add(type=_FLAT, step_size=1).price.value = "0"
    elif not components:
        refused.add("pricing", "it has no price")
    refused.check(external_id(ours))
    remote.ClearField("type")
    remote.ClearField("pricing")
    return Mapped(ours, mapped(remote, ours, _words_to(ours), {}).losses)


def _words_to(tariff: Tariff) -> tariff_pb2.Tariff:
    """All but the prices."""
    sent = tariff_pb2.Tariff(name=tariff.name or tariff.id, type="duration+energy")
    if key := external_id(tariff):
        sent.external_id = key
    for text in tariff.tariff_alt_text:
        sent.description[text.language] = text.text
    if tariff.tariff_alt_url:
        sent.learn_more_url[LOCALE] = tariff.tariff_alt_url
    return sent


def _words_from(remote: tariff_pb2.Tariff) -> Tariff:
    tariff = Tariff(name=remote.name, tariff_alt_url=remote.learn_more_url.get(LOCALE, ""))
    set_key(tariff, remote)
    for language in sorted(remote.description):
        tariff.tariff_alt_text.add(language=language, text=remote.description[language])
    if changed := time_of(remote.last_updated_at):
        tariff.last_updated.CopyFrom(changed)
    return tariff


def _price_to(
    component: PriceComponent, pricing: tariff_pb2.TariffPricing, name: str, path: str, refused: _Refused
) -> None:
    """A period is a block of whole minutes; what was begun of it is paid, as in OCPI."""
    price, step = Fraction(component.price.value), component.step_size
    if name in ("price_per_period", "idle_fee_per_minute"):
        price *= Fraction(step, 3600)
        if step < 60 or step % 60 or (step > 60 and name == "idle_fee_per_minute"):
            refused.add(f"{path}.step_size", "AMPECO bills whole minutes")
        elif name == "price_per_period":
            pricing.price_period_in_minutes = step // 60
    elif name == "price_per_kwh" and step > 1:
        refused.add(f"{path}.step_size", "AMPECO bills each Wh")
    _set_price(pricing, name, price, f"{path}.price", refused)


def _price_from(component: PriceComponent, pricing: tariff_pb2.TariffPricing, name: str, refused: _Refused) -> None:
    price = Fraction(getattr(pricing, name).value)
    if name in ("price_per_period", "idle_fee_per_minute"):
        minutes = pricing.price_period_in_minutes if name == "price_per_period" else 1
        if minutes < 1:
            refused.add("pricing.price_period_in_minutes", "the period is not known")
            return
        component.step_size = minutes * 60
        price *= Fraction(60, minutes)
    if (text := _decimal(price, 12)) is None:
        refused.add(f"pricing.{name}", "its price per hour has no end")
    else:
        component.price.value = text


def _set_price(pricing: tariff_pb2.TariffPricing, name: str, price: Fraction, path: str, refused: _Refused) -> None:
    if (text := _decimal(price, 5)) is None:
        refused.add(path, "AMPECO keeps 5 decimals")
    else:
        getattr(pricing, name).value = text


def _decimal(number: Fraction, places: int) -> str | None:
    """Its digits when so many decimals are enough."""
    scaled = number * 10**places
    if scaled.denominator != 1:
        return None
    whole, decimals = f"{Decimal(scaled.numerator).scaleb(-places):.{places}f}".split(".")
    return f"{whole}.{decimals}".rstrip("0").rstrip(".")


def _clear_zeros(tariff: tariff_pb2.Tariff) -> None:
    """In an answer false, 0 and an object of nothing stand for what is not set."""
    whole: Message = tariff
    for listed, value in whole.ListFields():
        if listed.message_type and listed.name in ("pricing", "restrictions", "stop_session", "display", "partner"):
            for inner, held in value.ListFields():
                if not (held.ListFields() if isinstance(held, Message) else held):
                    value.ClearField(inner.name)
            if not value.ListFields():
                whole.ClearField(listed.name)
