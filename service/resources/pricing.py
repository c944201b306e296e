"""The tariffs that a CDR is priced with."""

from collections.abc import Sequence
from datetime import UTC

from evbridge.v1.pricing_pb2 import AuditedCdr
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.keys import OURS, ObjectKey
from service.domain.pricing.audit import tariffs_named
from service.domain.pricing.jobs import start_of_cdr
from service.errors import InvalidArgument
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
