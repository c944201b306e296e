"""eMabler: its errors, and our locations and integrations in its form. The contract says the rest.

eMabler took most names from OCPI, as we did: what is named alike is copied, the other names stand in a table.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

from evbridge.partner.emabler.v2 import integration_pb2, location_pb2
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Location
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.ports import Refusal
from service.bridge.values import enum_names
from service.domain.fields import clear_output_only
from service.domain.mapping import Loss, Mapped
from service.errors import Unsupported

M = TypeVar("M", bound=Message)

_CODES: Final = {
    b"Something went wrong": "SOMETHING_WENT_WRONG",
    b"Not authorised": "NOT_AUTHORISED",
    b"Customer not found": "CUSTOMER_NOT_FOUND",
}
# Ours, eMabler's.
_LOCATION: Final = {"time_zone": "timezone", "energy_mix": "location_energy_mix"}
_INTEGRATION: Final = {
    "type": "integration_type",
    "display_name": "integration_name",
    "charging_period_interval_minutes": "charging_period_interval_in_minutes",
    "state_of_charge_sent": "state_of_charge_is_sent",
    "ocpi": "ocpi_connection",
    "platform_party_id": "third_party_id",
    "platform_party_country_code": "third_party_country_code",
    "utility_cloud": "utility_cloud_connection",
    "meter_values_sent": "metered_values_are_sent",
    "salesforce": "salesforce_connection",
}
# What an answer says of the partner; its connections hold what was sent.
_ANSWER: Final = (
    "integration_type",
    "integration_name",
    "approved_party_id",
    "customer_roles",
    "models",
    "charging_period_interval_in_minutes",
    "state_of_charge_is_sent",
    "free_vending_with_idtag_allowed",
    "version_details",
)
_NO_PLACE: Final = "The other side has no place for it."


def explain(status: int, body: bytes) -> Refusal:
    """An error is a line of plain text: a documented one becomes a code, none is passed on. Never raises."""
    return Refusal(_CODES.get(body.strip(b' \r\n"'), ""))


def unsupported(operation: str) -> NoReturn:
    """eMabler documents three operations: update an integration, get one, add a location. Raises Unsupported."""
    raise Unsupported.of("emabler", operation)


def location_to(location: Location, create_empty: bool = False) -> Mapped[location_pb2.NewLocation]:
    """One of ours as the body of AddLocation. Of its EVSEs the chargers, connectors and tariffs travel.

    None of them does with `create_empty`, which asks for an empty location.
    """
    meant, sent, losses = _meant(location), location_pb2.NewLocation(), list[Loss]()
    meant.ClearField("evses")
    _copy(meant, sent, _LOCATION, "", losses)
    chargers: dict[str, location_pb2.Evse] = {}
    for e, evse in enumerate(_meant(location).evses):
        path = f"evses[{e}]"
        if create_empty or not evse.charger_id:
            losses.append(Loss(path, "The location is empty." if create_empty else "It belongs to no charger."))
            continue
        if evse.charger_id not in chargers:
            chargers[evse.charger_id] = sent.chargers.add(charger_id=evse.charger_id)
        _name_others(evse, ("charger_id", "connectors"), f"{path}.", losses)
        for c, connector in enumerate(evse.connectors):
            chargers[evse.charger_id].connector.add(id=connector.id, tariff_ids=connector.tariff_ids)
            _name_others(connector, ("id", "tariff_ids"), f"{path}.connectors[{c}].", losses)
    return Mapped(sent, tuple(losses))


def integration_to(integration: Integration) -> Mapped[integration_pb2.IntegrationChanges]:
    """One of ours as the body of UpdateIntegration. A secret travels when it is set; a stored one never is."""
    meant, sent, losses = _meant(integration), integration_pb2.IntegrationChanges(), list[Loss]()
    if meant.HasField("ocpi"):
        _copy(meant, sent.ocpi_connection, {}, "", losses, only=("customer_roles",))
        meant.ClearField("customer_roles")
    _copy(meant, sent, _INTEGRATION, "", losses)
    return Mapped(sent, tuple(losses))


def integration_from(answer: integration_pb2.Integration | integration_pb2.UpdatedIntegration) -> Mapped[Integration]:
    """What an answer says of the partner, as fields of one of ours. Locations and tariffs are no part of it."""
    found, losses = Integration(), list[Loss]()
    _copy(answer, found, {theirs: ours for ours, theirs in _INTEGRATION.items()}, "", losses, only=_ANSWER)
    companies: Sequence[Message]
    if isinstance(answer, integration_pb2.Integration):
        name, path, companies = "partners_company_detail", "partners_company_detail", answer.partners_company_detail
    else:
        name, path, companies = (
            "credentials_info",
            "credentials_info.credentials_roles",
            answer.credentials_info.credentials_roles,
        )
        _name_others(answer.credentials_info, ("credentials_roles",), "credentials_info.", losses)
    for number, company in enumerate(companies):
        ours, below = found.partner_company_details.add(), f"{path}[{number}]."
        if isinstance(company, integration_pb2.PartnerCompany):
            _copy(company, ours, {}, below, losses, only=("role", "party_id", "country_code", "more"))
            _copy(company, ours.business_details, {}, below, losses, only=("name", "website", "logo"))
        else:
            _copy(company, ours, {}, below, losses)
    _name_others(answer, (*_ANSWER, name, "integration_id", "id"), "", losses)
    return Mapped(found, tuple(losses))


def _meant(object: M) -> M:
    """What a caller can write of it; the etag is no content."""
    meant = type(object)()
    meant.CopyFrom(object)
    clear_output_only(meant)
    meant.ClearField("etag")
    return meant


def _name_others(message: Message, known: Collection[str], path: str, losses: list[Loss]) -> None:
    losses.extend(Loss(path + field.name, _NO_PLACE) for field, _ in message.ListFields() if field.name not in known)


def _copy(
    source: Message,
    target: Message,
    names: Mapping[str, str],
    path: str,
    losses: list[Loss],
    only: Collection[str] = (),
) -> None:
    """Sets what both have, `names` telling which are called otherwise; names as lost what the target cannot hold.

    Times become texts and back, ids of digits numbers and back, and the values of an enum are those of the same name.
    """
    for field, value in source.ListFields():
        if only and field.name not in only:
            continue
        name = names.get(field.name, field.name)
        place: Any = target.DESCRIPTOR.fields_by_name.get(name)
        if place is None or place.is_repeated != field.is_repeated:
            losses.append(Loss(path + field.name, _NO_PLACE))
        elif not field.message_type or not place.message_type:
            values = [(value, f"{path}{field.name}")]
            if field.is_repeated:
                values = [(item, f"{path}{field.name}[{number}]") for number, item in enumerate(value)]
            for item, at in values:
                if (taken := _taken(item, field, place)) is None:
                    losses.append(Loss(at, "The other side does not know this value."))
                elif field.is_repeated:
                    getattr(target, name).append(taken)
                else:
                    setattr(target, name, taken)
        elif field.is_repeated:
            for number, item in enumerate(value):
                _copy(item, getattr(target, name).add(), names, f"{path}{field.name}[{number}].", losses)
        elif field.message_type is place.message_type:
            getattr(target, name).CopyFrom(value)
        else:
            getattr(target, name).SetInParent()
            _copy(value, getattr(target, name), names, f"{path}{field.name}.", losses)


def _taken(value: Any, field: Any, place: Any) -> Any:
    """The value as the place holds it; None when it cannot."""
    try:
        if isinstance(value, Timestamp):
            return value.ToJsonString() if place.cpp_type == FieldDescriptor.CPPTYPE_STRING else None
        if place.message_type is not None:
            (time := Timestamp()).FromJsonString(value)
            return time
        if field.enum_type or place.enum_type:
            name = enum_names(field.enum_type).get(value, "") if field.enum_type else value
            return _numbers(place.enum_type).get(_folded(name)) if place.enum_type else name or None
        if field.cpp_type == place.cpp_type:
            return value
        if place.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return str(value)
        return int(value) if str(int(value)) == value and int(value) < 2**63 else None
    except ValueError:
        return None


def _folded(name: str) -> str:
    return name.replace("_", "").upper()


@cache
def _numbers(enum: EnumDescriptor) -> dict[str, int]:
    return {_folded(name): number for number, name in enum_names(enum).items()}
