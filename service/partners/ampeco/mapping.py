"""AMPECO: its errors, and what its form has in common for all that is ours. The contract says the rest.

Its objects name no party, so the key of one of ours is its external id there.
"""

from typing import Any, Final

from evbridge.partner.ampeco.v3 import charge_point_pb2, evse_pb2, location_pb2
from evbridge.v1.location_pb2 import Location
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.json_text import CodecError, parse_tolerantly
from service.bridge.ports import Refusal
from service.errors import FieldViolation

# The language of texts that name none, such as the name of a location.
LOCALE: Final = "en"


def explain(status: int, body: bytes) -> Refusal:
    """The message and, of a 422, the first complaint about each field. Never raises."""
    try:
        document = parse_tolerantly(body)
    except CodecError:
        return Refusal()
    members = document if isinstance(document, dict) else {}
    complaints = members.get("errors")
    return Refusal(
        message=_complaint(members.get("message")),
        violations=tuple(
            FieldViolation("/" + str(field).replace("~", "~0").replace("/", "~1").replace(".", "/"), _complaint(texts))
            for field, texts in (complaints.items() if isinstance(complaints, dict) else ())
        ),
    )


def _complaint(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) else ""


def is_roaming(object: location_pb2.Location | charge_point_pb2.ChargePoint | evse_pb2.Evse) -> bool:
    """Whether it is another operator's, shown by roaming."""
    return bool(object.roaming_operator_id)


def is_private(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it serves those alone whom a partner lets in."""
    return charge_point.type == "private"


def is_personal(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it serves the one user who owns it."""
    return charge_point.type == "personal"


def is_demo(charge_point: charge_point_pb2.ChargePoint) -> bool:
    """Whether it is simulated."""
    return charge_point.status == "demo"


def external_id(object: Location | Tariff) -> str:
    """The external id of one of ours. One without a party came from there and keeps the external id it had."""
    return f"{object.country_code}*{object.party_id}*{object.id}" if object.country_code else object.external_id


def key_of_ours(remote: Any) -> dict[str, str] | None:
    """What the external id says of the key of one of ours, as `external_id` wrote it; None when it is another's."""
    match remote.external_id.split("*", 2):
        case [country_code, party_id, id] if len(country_code) == 2 and len(party_id) == 3 and id:
            return {"country_code": country_code, "party_id": party_id, "id": id}
    return None


def set_key(object: Any, remote: Any) -> None:
    """The key of one of ours; of another the id AMPECO gave it, without a party."""
    if key := key_of_ours(remote):
        object.country_code, object.party_id, object.id = key.values()
    else:
        object.id = str(remote.id) if remote.HasField("id") else ""
        object.external_id = remote.external_id


def id_here(remote: charge_point_pb2.ChargePoint | evse_pb2.Evse) -> str:
    """Ours where we gave it one, else AMPECO's."""
    return remote.external_id or (str(remote.id) if remote.HasField("id") else "")


def time_of(text: str) -> Timestamp | None:
    time = Timestamp()
    try:
        time.FromJsonString(text)
    except ValueError:
        return None
    return time
