"""Tokens that providers send. See service.resources.received."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN

from service.bridge.json_text import parse_json, text_of
from service.domain.caller import Caller
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.resources.documents import token_of
from service.resources.mutation import record
from service.resources.received import change_of, transact
from service.resources.received_object import Whole, object_received, objects_received, received_object
from service.storage.changes import UPDATE
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.received import documents_get, documents_put
from service.storage.token import token_lock, token_put

_TOKENS = Whole("token", "uid", OBJECT_KIND_TOKEN, token_of, token_lock, token_put)

tokens_received = partial(objects_received, _TOKENS)
token_received = partial(object_received, _TOKENS)
received_token = partial(received_object, _TOKENS)


async def tokens_gone(database: Database, caller: Caller, keys: Sequence[ObjectKey]) -> int:
    """Makes tokens invalid that the partner does not list any more; tells how many were not.

    The partner's times stay, so what it shows again is taken again.
    """

    async def work(conn: Connection, now: datetime) -> int:
        locked = await token_lock(conn, caller.tenant_id, keys)
        integration_id = keys[0].integration_id
        gone = {key: token for key, token in locked.items() if token and token.valid}
        for token in gone.values():
            token.valid = False
            token.etag = etag_of(token)
        await token_put(conn, caller.tenant_id, [gone[key] for key in sorted(gone)], locked)
        kept = await documents_get(conn, caller.tenant_id, integration_id, OBJECT_KIND_TOKEN, [*map(str, gone)])
        invalid = [each._replace(document=text_of(parse_json(each.document) | {"valid": False})) for each in kept]
        await documents_put(conn, caller.tenant_id, integration_id, OBJECT_KIND_TOKEN, invalid)
        await record(conn, caller, OBJECT_KIND_TOKEN, [change_of(key, UPDATE, each.etag) for key, each in gone.items()])
        return len(gone)

    return await transact(database, work)
