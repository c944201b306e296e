"""How people read the ids under which objects are stored: as their owner writes them."""

from collections.abc import Callable, Collection
from typing import Any, Final

import asyncpg
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
    ObjectKind,
)
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token

from service.domain.keys import ObjectKey, key_of
from service.domain.token import token_key
from service.storage.connection import Connection
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)

_OF_PARTIES: Final[dict[ObjectKind.ValueType, tuple[type[Any], Callable[[Any], ObjectKey]]]] = {
    OBJECT_KIND_TARIFF: (Tariff, key_of),
    OBJECT_KIND_LOCATION: (Location, key_of),
    OBJECT_KIND_SESSION: (Session, key_of),
    OBJECT_KIND_CDR: (Cdr, key_of),
    OBJECT_KIND_TOKEN: (Token, token_key),
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD: (InvoiceReconciliationRecord, key_of),
}


async def object_ids_shown(on: Database | Connection, tenant_id: str, rows: Collection[asyncpg.Record]) -> list[str]:
    """The id for people of each row's object: DE*ABC*Berlin-1; in lower case when it is gone, or part of another."""
    objects = [(row["object_kind"], row["object_id"]) for row in rows]
    shown = {(kind, id): id if kind == OBJECT_KIND_COMPANY else ObjectKey.parsed(id).shown for kind, id in objects}
    if of_parties := [each for each in shown if each[0] in _OF_PARTIES]:
        for row in await on.rows(sql.object_payloads, tenant_id, *map(list, zip(*of_parties, strict=True))):
            if row["payload"] is not None:
                form, key = _OF_PARTIES[row["kind"]]
                shown[row["kind"], row["id"]] = key(form.FromString(row["payload"])).shown
    return [shown[each] for each in objects]
