"""Keeps what a partner sees of an object that is due there: the only place that writes it.

Only a change of what is seen moves the view: it may be one of the object or of the rules that reach it.
"""

from typing import TypeVar

from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF, ObjectKind
from evbridge.v1.location_pb2 import Location
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.keys import ObjectKey
from service.domain.location import tariffs_named
from service.domain.view import location_shown, tariff_shown
from service.errors import ResourceNotFound
from service.resources.publication import publication_at, sees_tariff, timestamp_of
from service.storage.changes import change_time, delivery_mark_at
from service.storage.delivery import Claim, delivery_hold
from service.storage.location import location_get
from service.storage.pool import Database
from service.storage.tariff import tariff_get
from service.storage.view import Viewed, view_get, view_names, view_put

M = TypeVar("M", Location, Tariff)

VIEWED: frozenset[ObjectKind.ValueType] = frozenset({OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF})


async def view_refresh(database: Database, claim: Claim) -> str:
    """Brings the partner's view of the object to what it is now, and says what became of it. Raises LeaseLost."""
    key = ObjectKey.parsed(claim.object_id)
    async with database.connection() as conn:
        viewed = await view_get(conn, claim.tenant_id, claim.integration_id, claim.object_kind, key)
        now = await change_time(conn)
    if claim.object_kind == OBJECT_KIND_TARIFF:
        tariff = await _seen_tariff(database, claim, key)
        return await _store(database, claim, key, viewed, tariff_shown(tariff), set(), set(), shown=tariff is not None)
    location = await _seen_location(database, claim, key)
    before = Location.FromString(viewed.document) if viewed else None
    shown = location_shown(location, before, timestamp_of(now))
    named = _named(shown), _named(before)
    return await _store(database, claim, key, viewed, shown, *named, shown=location is not None)


async def view_shown(database: Database, claim: Claim, form: type[M]) -> M | None:
    """The object as the partner sees it; None when it does not."""
    key = ObjectKey.parsed(claim.object_id)
    viewed = await view_get(database, claim.tenant_id, claim.integration_id, claim.object_kind, key)
    return viewed.parsed(form) if viewed and viewed.shown else None


async def _seen_location(database: Database, claim: Claim, key: ObjectKey) -> Location | None:
    """None too for one that was imported from there."""
    try:
        location = Location.FromString(await location_get(database, claim.tenant_id, key))
    except ResourceNotFound:
        return None
    if location.origin.integration_id == claim.integration_id:
        return None
    return (await publication_at(database, claim.tenant_id, claim.integration_id)).location(location)


async def _seen_tariff(database: Database, claim: Claim, key: ObjectKey) -> Tariff | None:
    """One that a location still names in the partner's view stays until that does not: it is due again then."""
    try:
        tariff = Tariff.FromString(await tariff_get(database, claim.tenant_id, key))
    except ResourceNotFound:
        return None
    if tariff.origin.integration_id == claim.integration_id:
        return None
    publication = await publication_at(database, claim.tenant_id, claim.integration_id)
    sees, _ = await sees_tariff(database, claim.tenant_id, publication, key)
    return tariff if sees or await view_names(database, claim.tenant_id, claim.integration_id, key) else None


async def _store(
    database: Database,
    claim: Claim,
    key: ObjectKey,
    before: Viewed | None,
    shown_as: Location | Tariff | None,
    named: set[ObjectKey],
    named_before: set[ObjectKey],
    *,
    shown: bool,
) -> str:
    """Stores a view that changed. Tariffs that the partner sees by it, or not any more, are due there."""
    document = shown_as.SerializeToString(deterministic=True) if shown_as else None
    if document == (before.document if before else None) and shown == bool(before and before.shown):
        return "the partner sees this state already" if shown else "the partner does not see it"
    async with database.transaction() as conn:
        await delivery_hold(conn, claim)
        at = (claim.tenant_id, claim.integration_id)
        await view_put(conn, *at, claim.object_kind, key, document, named, shown=shown)
        if changed := named ^ named_before:
            await delivery_mark_at(conn, *at, OBJECT_KIND_TARIFF, changed)
    return "the partner sees its new state" if shown else "the partner does not see it any more"


def _named(location: Location | None) -> set[ObjectKey]:
    return {key for _, key in tariffs_named(location)} if location else set()
