"""The tariffs that a session or a CDR is priced with."""

from collections.abc import Sequence
from datetime import UTC

from evbridge.v1.location_pb2 import Location
from evbridge.v1.pricing_pb2 import AuditedCdr
from evbridge.v1.tariff_pb2 import TARIFF_TYPE_UNSPECIFIED, Tariff, TariffType
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.keys import OURS, ObjectKey, key_of
from service.domain.pricing.audit import tariffs_named
from service.domain.pricing.jobs import start_of_cdr
from service.domain.pricing.numbers import seconds
from service.domain.pricing.tariff import in_force
from service.errors import InvalidArgument
from service.resources.publication import publication_at
from service.storage.pool import Database
from service.storage.tariff import tariff_at

_MAX_TARIFFS = 20
"""As many as a CDR may bring along."""


async def tariffs_of(
    database: Database, tenant_id: str, cdr: AuditedCdr, tariffs: Sequence[Tariff], integration_id: str = OURS
) -> list[Tariff]:
    """Those its periods name, of its own or the stored ones; the first of its own when they name none.

    Raises InvalidArgument when there is none or too many are named, ResourceNotFound, TariffRevisionNotKept.
    """
    named = tariffs_named(cdr)
    if len(named) > _MAX_TARIFFS:
        raise InvalidArgument.field("cdr.charging_periods", f"name more than {_MAX_TARIFFS} tariffs")
    if not named and not tariffs:
        raise InvalidArgument.field("tariffs", "are needed when no period names a tariff")
    own = {tariff.id.casefold(): tariff for tariff in reversed(tariffs)}
    start = start_of_cdr(cdr).ToDatetime(tzinfo=UTC)
    return [
        own.get(id.casefold())
        or await tariff_at(database, tenant_id, ObjectKey.of(cdr.country_code, cdr.party_id, id, integration_id), start)
        for id in named
    ] or [tariffs[0]]


async def tariff_shown(
    database: Database,
    tenant_id: str,
    integration_id: str,
    location: Location,
    connector: tuple[int, int],
    type: TariffType.ValueType,
    start: Timestamp,
    at: Timestamp,
) -> Tariff | None:
    """The one of the type that the partner sees on a connector at that instant, as it was at the session's start.

    `connector` is where it stands, see connector_at. None when there is none. Raises ResourceNotFound,
    TariffRevisionNotKept.
    """
    publication = await publication_at(database, tenant_id, integration_id, at)
    seen = [ids for row, column, ids in publication.connectors(location) if (row, column) == connector]
    return await _in_force(database, tenant_id, location, [id for ids in seen for id in ids], type, start, at)


async def tariff_named(
    database: Database, tenant_id: str, location: Location, connector: tuple[int, int], start: Timestamp
) -> Tariff | None:
    """The one that a connector names itself, Raises what `tariff_shown` does."""
    row, column = connector
    ids = location.evses[row].connectors[column].tariff_ids
    return await _in_force(database, tenant_id, location, ids, TARIFF_TYPE_UNSPECIFIED, start, start)


async def _in_force(
    database: Database,
    tenant_id: str,
    location: Location,
    ids: Sequence[str],
    type: TariffType.ValueType,
    start: Timestamp,
    at: Timestamp,
) -> Tariff | None:
    keys = [ObjectKey.of(*key_of(location).party, id) for id in ids]
    then = start.ToDatetime(tzinfo=UTC)
    return in_force([await tariff_at(database, tenant_id, key, then) for key in keys], type, seconds(at))
