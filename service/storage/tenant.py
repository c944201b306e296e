"""A tenant as rows that can be written to files and read into another database.

A row is a dict of what JSON has: messages in protobuf's JSON form, times and durations in protobuf's notation, other
bytes in base64. What belongs to this database, this moment or this process stays: see LEFT_BEHIND.
"""

import base64
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.charger_pb2 import Charger
from evbridge.v1.command_pb2 import Command
from evbridge.v1.company_pb2 import Company
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.partner_pb2 import Exchange
from evbridge.v1.party_pb2 import Party
from evbridge.v1.publication_pb2 import PublicationRule
from evbridge.v1.quarantine_pb2 import QuarantinedObject
from evbridge.v1.run_pb2 import Run, RunFinding
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError, SerializeToJsonError
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.storage.connection import Connection
from service.storage.evse_payload import evse_payload
from service.storage.statements import Statements

sql = Statements.beside(__file__)

Row = dict[str, Any]
_MESSAGES: dict[str, Mapping[str, type[Message]]] = {
    "party": {"payload": Party},
    "company": {"payload": Company},
    "charger": {"payload": Charger},
    "integration": {"payload": Integration},
    "publication_rule": {"payload": PublicationRule},
    "secret": {},
    "api_key": {},
    "partner_token": {},
    "location": {"payload": Location},
    "evse": {"payload": Location},
    "tariff": {"payload": Tariff},
    "tariff_revision": {"payload": Tariff},
    "token": {"payload": Token},
    "session": {"payload": Session},
    "cdr": {"payload": Cdr},
    "invoice_reconciliation": {"payload": InvoiceReconciliationRecord},
    "hub_client": {"payload": HubClient},
    "received_document": {},
    "partner_document": {},
    "partner_object": {},
    "peer_object": {},
    "peer_part": {},
    "delivery": {},
    "delivery_attempt": {},
    "marking": {},
    "disclosure": {},
    "pull": {},
    "pull_unseen": {},
    "quarantine": {"payload": QuarantinedObject},
    "run": {"progress": Run, "steps": Run, "options": Run},
    "run_finding": {"payload": RunFinding},
    "command": {"payload": Command},
    "notified": {},
    "notified_due": {},
    "gate_budget": {},
    "gate_pause": {},
    "exchange": {"payload": Exchange},
    "exchange_recording": {},
    "repaired_answer": {},
}
TABLES = (*_MESSAGES,)
"""What a tenant consists of, so ordered that a row comes after those that it refers to."""
LEFT_BEHIND = frozenset(
    {
        *("access_token", "audit_event", "audit_seal", "change", "gate_slot", "idempotency", "listener", "question"),
        *("read_object", "read_page"),
    }
)
"""What is of one database only: tokens that are asked for anew, the audit and its chain, the change feed, answers to
repeat, who waits, and what runs under way have read.
"""

_INFINITE = {"infinity": datetime.max, "-infinity": datetime.min}  # as the driver has them
_NAMES = {time: name for name, time in _INFINITE.items()}
_COPY_S = 24 * 3600.0


class Made(NamedTuple):
    """Of which export the tenant was made, if of any, and whether it holds anything."""

    export_id: UUID | None
    import_time: datetime | None
    used: bool


async def tenant_snapshot(conn: Connection) -> None:
    """Begins a transaction that reads all as of one moment, however long it takes."""
    await conn.run(sql.tenant_snapshot)
    await conn.run(sql.tenant_unhurried)


async def tenant_rows(conn: Connection, tenant_id: str, table: str) -> AsyncIterator[Row]:
    messages = _MESSAGES[table]
    async for row in conn.stream(getattr(sql, f"tenant_{table}"), tenant_id):
        yield {name: _written(value, messages.get(name)) for name, value in row.items()}


async def tenant_lock(conn: Connection, tenant_id: str) -> Made | None:
    """Kept from being made twice until the transaction ends, which may take its time; None when there is none."""
    await conn.run(sql.tenant_unhurried)
    row = await conn.row(sql.tenant_lock, tenant_id)
    return None if row is None else Made(**row)


async def tenant_fill(conn: Connection, tenant_id: str, table: str, rows: Iterable[Row]) -> None:
    """Adds rows of `tenant_rows`, or of another database's. Raises ValueError for one that is none."""
    columns = await conn.columns(getattr(sql, f"tenant_{table}"))
    await conn.copy(table, ["tenant_id", *columns], _records(tenant_id, table, columns, rows), _COPY_S)


async def tenant_imported(conn: Connection, tenant_id: str, export_id: UUID) -> None:
    await conn.run(sql.tenant_imported, tenant_id, export_id)


def _written(value: Any, message: type[Message] | None) -> Any:
    if isinstance(value, bytes):
        return (message and _message_written(message, value)) or base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return _NAMES.get(value) or _time_written(value)
    if isinstance(value, timedelta):
        duration = Duration()
        duration.FromTimedelta(value)
        return duration.ToJsonString()
    return str(value) if isinstance(value, UUID) else value


def _time_written(time: datetime) -> str:
    written = Timestamp()
    written.FromDatetime(time)
    return written.ToJsonString()


def _message_written(message: type[Message], value: bytes) -> Row | None:
    """None for what would not come back as it is: with fields of a newer build, or values that JSON lacks."""
    read = message.FromString(value)
    size = read.ByteSize()
    read.DiscardUnknownFields()
    if read.ByteSize() == size:
        with suppress(SerializeToJsonError, ValueError, TypeError):
            return MessageToDict(read, preserving_proto_field_name=True)
    return None


def _records(
    tenant_id: str, table: str, columns: Mapping[str, str], rows: Iterable[Row]
) -> Iterator[tuple[str, *tuple[Any, ...]]]:
    messages = _MESSAGES[table]
    for row in rows:
        if row.keys() != columns.keys():
            raise ValueError(f"has not the columns {', '.join(columns)}")
        yield tenant_id, *(_read(row[name], type, table, messages.get(name)) for name, type in columns.items())


def _read(value: Any, type: str, table: str, message: type[Message] | None) -> Any:
    """What `_written` wrote. Raises ValueError."""
    if value is None or type not in _READERS:
        return value
    if isinstance(value, dict) and message:
        try:
            read = ParseDict(value, message())
        except ParseError as error:
            raise ValueError(str(error)) from None
        if isinstance(read, Location) and table == "evse":
            return evse_payload(read.evses[0])
        return read.SerializeToString(deterministic=True)
    if not isinstance(value, str):
        raise ValueError(f"has {value!r:.40} where {type} is expected")
    return _READERS[type](value)


def _time_read(text: str) -> datetime:
    time = Timestamp()
    if text not in _INFINITE:
        time.FromJsonString(text)
    return _INFINITE.get(text) or time.ToDatetime(UTC)


def _duration_read(text: str) -> timedelta:
    duration = Duration()
    duration.FromJsonString(text)
    return duration.ToTimedelta()


_READERS: dict[str, Callable[[str], Any]] = {
    "bytea": lambda text: base64.b64decode(text, validate=True),
    "timestamptz": _time_read,
    "interval": _duration_read,
    "uuid": UUID,
}
