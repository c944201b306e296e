"""Keeps what a partner is sent, before it is, and what became of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from google.protobuf.message import Message

from service.errors import EvbridgeError
from service.storage.delivery import Claim
from service.storage.disclosure import disclosure_begin, disclosure_end, disclosure_sending
from service.storage.peer import PartKey, Peer
from service.storage.pool import Database


@asynccontextmanager
async def sending(
    database: Database,
    claim: Claim,
    peer: Peer,
    held: bytes | None,
    document: Message | None,
    tariff_keys: Sequence[str] = (),
    part: PartKey | None = None,
) -> AsyncIterator[None]:
    """Send the document of the object while entered, or that of a part that makes it `held`; None to have it deleted.

    From now on the partner holds what it did, `peer`, or `held`, until it is acknowledged; when the process dies
    meanwhile, the outcome stays unknown. The lease begins anew. Raises LeaseLost: then nothing may be sent.
    """
    part = part or PartKey(claim.object_kind)
    id = await disclosure_sending(database, claim, peer, held, part, document, tariff_keys)
    async with _ended(database, claim, id):
        yield


@asynccontextmanager
async def disclosed(database: Database, claim: Claim, document: Message, part: PartKey) -> AsyncIterator[None]:
    """The same for a part that is remembered by itself."""
    id = await disclosure_begin(database, claim, part, document)
    async with _ended(database, claim, id):
        yield


@asynccontextmanager
async def _ended(database: Database, claim: Claim, id: UUID) -> AsyncIterator[None]:
    try:
        yield
    except EvbridgeError as error:
        await disclosure_end(database, claim, id, error)
        raise
    await disclosure_end(database, claim, id, None)
