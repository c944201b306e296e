"""What a partner sees of an object that is due there."""

from evbridge.v1.location_pb2 import Location
from evbridge.v1.tariff_pb2 import Tariff

from service.domain.keys import ObjectKey
from service.errors import ResourceNotFound
from service.resources.publication import publication_at, sees_tariff
from service.storage.delivery import Claim
from service.storage.location import location_get
from service.storage.pool import Database
from service.storage.tariff import tariff_get


async def seen_location(database: Database, claim: Claim) -> Location | None:
    """The location as the partner sees it; None when it does not, or when it was imported from there."""
    try:
        payload = await location_get(database, claim.tenant_id, ObjectKey.parsed(claim.object_id))
    except ResourceNotFound:
        return None
    location = Location.FromString(payload)
    if location.origin.integration_id == claim.integration_id:
        return None
    return (await publication_at(database, claim.tenant_id, claim.integration_id)).location(location)


async def seen_tariff(database: Database, claim: Claim) -> Tariff | None:
    """The tariff if the partner sees it, and it was not imported from there."""
    key = ObjectKey.parsed(claim.object_id)
    try:
        tariff = Tariff.FromString(await tariff_get(database, claim.tenant_id, key))
    except ResourceNotFound:
        return None
    if tariff.origin.integration_id == claim.integration_id:
        return None
    publication = await publication_at(database, claim.tenant_id, claim.integration_id)
    sees, _ = await sees_tariff(database, claim.tenant_id, publication, key)
    return tariff if sees else None
