"""Keeps what a partner is sent, before it is, and what became of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from google.protobuf.message import Message

from service.errors import EvbridgeError
from service.storage.delivery import Claim
from service.storage.disclosure import disclosure_begin, disclosure_end
from service.storage.peer import PartKey
from service.storage.pool import Database


@asynccontextmanager
async def disclosed(
    database: Database, claim: Claim, document: Message | None, part: PartKey | None = None
) -> AsyncIterator[None]:
    """Send the document while entered: the object's, or that of a part; None to have it deleted.

    When the process dies meanwhile, the outcome stays unknown.
    """
    id = await disclosure_begin(database, claim, part or PartKey(claim.object_kind), document)
    try:
        yield
    except EvbridgeError as error:
        await disclosure_end(database, claim, id, error)
        raise
    await disclosure_end(database, claim, id, None)
