"""Prices CDRs that operators sent again, one after another, and keeps where they say something else."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.cdr_pb2 import (
    CDR_AUDIT_STATE_DIFFERENT,
    CDR_AUDIT_STATE_EQUAL,
    CDR_AUDIT_STATE_NOT_AUDITED,
    Cdr,
    CdrAudit,
)
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR
from evbridge.v1.location_pb2 import Location
from evbridge.v1.pricing_pb2 import (
    OCPI_VERSION_2_1_1,
    OCPI_VERSION_2_2_1,
    AuditCdrRequest,
    AuditCdrResponse,
    AuditedCdr,
    PricingOptions,
)
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.domain.pricing.jobs import run_if_small
from service.errors import EvbridgeError, InvalidArgument, ResourceNotFound
from service.processes.pool import Processes
from service.resources.mutation import record
from service.resources.pricing import tariffs_of
from service.storage.cdr import cdr_audit_alone, cdr_audit_due, cdr_audited
from service.storage.changes import UPDATE, Change
from service.storage.connection import describe
from service.storage.location import location_find
from service.storage.pool import Database
from service.storage.received import documents_get
from service.storage.tariff import tariff_find

log = logging.getLogger(__name__)

_LOCAL = ("start_time", "end_time", "start_date", "end_date", "day_of_week")
"""Restrictions that hold by the clock of the place."""
_KEY_ID = "audit"
_MAX_DESCRIPTION = 500


async def audits_due(database: Database, processes: Processes) -> bool:
    """Audits the next CDR. False when none is due."""
    due = await cdr_audit_due(database)
    if due is None:
        return False
    tenant_id, key, cdr = due
    wanted: ObjectKey | None = None
    try:
        found = await _audited(database, processes, tenant_id, key, cdr)
    except EvbridgeError as error:
        wanted = _tariff_wanted(error, key)
        found = CdrAudit(state=CDR_AUDIT_STATE_NOT_AUDITED, description=error.message[:_MAX_DESCRIPTION])
    except Exception as error:
        log.warning("an audit broke", extra={"problem": describe(error)})
        found = CdrAudit(state=CDR_AUDIT_STATE_NOT_AUDITED, description="a fault inside evbridge: see the log")
    found.audit_time.FromDatetime(datetime.now(UTC))
    cdr.audit.CopyFrom(found)
    async with database.transaction() as conn:
        if wanted:
            await cdr_audit_alone(conn, tenant_id, key.integration_id)
            if await tariff_find(conn, tenant_id, [wanted]):
                return True  # It has arrived meanwhile: the CDR is due again once its lease ends.
        if await cdr_audited(conn, tenant_id, key, cdr, wanted):
            change = Change(str(key), UPDATE, cdr.etag, key.integration_id)
            await record(conn, Caller(tenant_id, _KEY_ID, ROLE_WRITER), OBJECT_KIND_CDR, [change])
    return True


async def _audited(database: Database, processes: Processes, tenant_id: str, key: ObjectKey, cdr: Cdr) -> CdrAudit:
    """Raises what keeps it from being priced."""
    request = AuditCdrRequest(cdr=_stated(cdr))
    request.tariffs.extend(await tariffs_of(database, tenant_id, request.cdr, cdr.tariffs, key.integration_id))
    sent = await documents_get(database, tenant_id, key.integration_id, OBJECT_KIND_CDR, [str(key)])
    is_old = any(each.version == "2.1.1" for each in sent)
    request.options.CopyFrom(
        PricingOptions(
            time_zone=await _time_zone(database, tenant_id, key, cdr, request.tariffs),
            ocpi_version=OCPI_VERSION_2_1_1 if is_old else OCPI_VERSION_2_2_1,
        )
    )
    answer = run_if_small("AuditCdr", request)
    if answer is None:
        answer = await processes.run(f"{tenant_id}/{_KEY_ID}", "AuditCdr", request.SerializeToString())
    response = AuditCdrResponse.FromString(answer)
    state = CDR_AUDIT_STATE_DIFFERENT if response.differences else CDR_AUDIT_STATE_EQUAL
    return CdrAudit(state=state, differences=response.differences, computed_cost=response.quote.total_cost)


def _tariff_wanted(error: EvbridgeError, cdr: ObjectKey) -> ObjectKey | None:
    """The tariff that is not there; None when it is something else that is wrong."""
    if not isinstance(error, ResourceNotFound) or error.metadata["resource"] != "tariff":
        return None
    country_code, party_id, id = error.metadata["id"].split("*", 2)
    return ObjectKey.of(country_code, party_id, id, cdr.integration_id)


def _stated(cdr: Cdr) -> AuditedCdr:
    """What it says of its session and costs."""
    stated = AuditedCdr()
    for field in stated.DESCRIPTOR.fields:
        value = getattr(cdr, field.name)
        if field.is_repeated:
            getattr(stated, field.name).extend(value)
        elif field.message_type is None:
            setattr(stated, field.name, value)
        elif cdr.HasField(field.name):  # type: ignore[arg-type]
            getattr(stated, field.name).CopyFrom(value)
    return stated


async def _time_zone(database: Database, tenant_id: str, key: ObjectKey, cdr: Cdr, tariffs: Iterable[Tariff]) -> str:
    """Of the place, as far as a price depends on it. Raises InvalidArgument when it is not known."""
    place = ObjectKey.of(*key.party, cdr.cdr_location.id, key.integration_id)
    payload = (await location_find(database, tenant_id, [place])).get(place, b"")
    if zone := Location.FromString(payload).time_zone:
        return zone
    elements = [element for tariff in tariffs for element in tariff.elements]
    if any(getattr(element.restrictions, name) for element in elements for name in _LOCAL):
        raise InvalidArgument.field("cdr_location.id", "is not a received location, on whose clock prices depend")
    return "UTC"
