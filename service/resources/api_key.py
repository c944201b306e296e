"""API keys: what may be made, by whom."""

from collections.abc import Collection
from datetime import UTC, datetime

from evbridge.v1.api_key_pb2 import Key

from service.domain.caller import Caller
from service.domain.fields import clear_output_only, fields_changed
from service.domain.secret import Secret
from service.errors import FieldViolation, InvalidArgument, KeyLimited
from service.resources.noun import dangling
from service.storage.api_key import api_key_insert
from service.storage.connection import Connection
from service.storage.integration import integration_find
from service.storage.keyring import Keyring


async def key_make(
    conn: Connection,
    keyring: Keyring,
    maker: Caller,
    now: datetime,
    wanted: Key,
    secret: Secret,
    services: Collection[str],
) -> None:
    """Stores a key, and fills in what is output only. `services` are those that are served.

    Raises InvalidArgument, ReferenceNotFound, and KeyLimited when the key could do what its maker cannot.
    """
    clear_output_only(wanted)
    violations = [
        FieldViolation(f"key.services[{number}]", "is not a service, such as evbridge.v1.LocationService")
        for number, name in enumerate(wanted.services)
        if name not in services
    ]
    if wanted.HasField("expire_time") and wanted.expire_time.ToDatetime(UTC) <= now:
        violations.append(FieldViolation("key.expire_time", "must be in the future"))
    if violations:
        raise InvalidArgument.of(tuple(violations))
    _check_maker(maker, wanted)
    found = await integration_find(conn, maker.tenant_id, wanted.integrations)
    for number, id in enumerate(wanted.integrations):
        if id not in found:
            where = FieldViolation(f"key.integrations[{number}]", "is not an integration of the tenant")
            raise dangling("integration", id, (where,))
    await api_key_insert(conn, keyring, maker.tenant_id, wanted, secret)
    maker.trail.add("key", [wanted.id], 1)
    maker.trail.name(fields_changed(None, wanted))


def _check_maker(maker: Caller, wanted: Key) -> None:
    """A maker that is limited to integrations makes no keys: no request of that names one."""
    limits = maker.limits
    if limits.services and not (wanted.services and limits.services.issuperset(wanted.services)):
        raise KeyLimited("the key would be for services that yours is not for", limit="services")
    end = wanted.expire_time.ToDatetime(UTC) if wanted.HasField("expire_time") else None
    if limits.expire_time and not (end and end <= limits.expire_time):
        raise KeyLimited("the key would expire later than yours", limit="expire_time")
