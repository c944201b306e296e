"""Partners: how an integration with one fares."""

from evbridge.v1.partner_pb2 import PartnerStatus

from service.domain.target import Target
from service.storage.delivery import delivery_summary
from service.storage.exchange import exchange_recorded_until
from service.storage.gate import gate_status
from service.storage.integration import integration_takes
from service.storage.pool import Database


async def partner_status(database: Database, target: Target) -> PartnerStatus:
    """What may be sent through the integration now, what is delivered through it, and how that fares."""
    key = (target.tenant_id, target.integration_id)
    status = await gate_status(database, target)
    end = await exchange_recorded_until(database, *key)
    if end is not None:
        status.recording_end_time.FromDatetime(end)
    status.object_kinds.extend(await integration_takes(database, *key))
    status.deliveries.CopyFrom(await delivery_summary(database, *key))
    return status
