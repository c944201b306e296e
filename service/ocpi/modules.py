"""What the modules with objects have in common: who sends, what a body holds, and how an answer is written."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.authorization_pb2 import AuthorizationQuestion
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.party_pb2 import PartyRole
from evbridge.v1.session_pb2 import ChargingPreferencesQuestion

from service.bridge.edge import Reply
from service.bridge.json_text import CodecError, parse_json, takes_long, text_of
from service.bridge.messages import MAX_DEPTH
from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey
from service.domain.received import ID_RULE, Document, is_id, is_text
from service.errors import FieldViolation, InvalidArgument, ResourceNotFound
from service.ocpi.listener import OcpiRefused, Visit, timestamp
from service.partners.ocpi import received
from service.partners.ocpi.versions import v2_1_1
from service.resources.documents import Sender, by_size
from service.resources.received import Outcome, Receipt
from service.runs.worker import Tools
from service.storage.integration import integration_get

log = logging.getLogger(__name__)


def caller_of(visit: Visit) -> Caller:
    """The partner, as the change feed names it."""
    return Caller(visit.tenant_id, f"integration/{visit.integration_id}", ROLE_WRITER, visit.call.client)


def unknown() -> OcpiRefused:
    return OcpiRefused(2003, "unknown here", status=404)


async def stored_of(tools: Tools, visit: Visit) -> Integration:
    """The integration with the partner. Raises OcpiRefused when it was deleted a moment ago."""
    try:
        payload = await integration_get(tools.database, visit.tenant_id, visit.integration_id)
    except ResourceNotFound:
        raise OcpiRefused(2000, "no known token", status=401) from None
    return Integration.FromString(payload)


def key_in(request: Any, id: str, visit: Visit) -> ObjectKey:
    """The object of the partner that the request's URL names."""
    return ObjectKey.of(request.country_code, request.party_id, id, visit.integration_id)


def key_in_body(document: Document, visit: Visit, owner: PartyKey | None = None) -> ObjectKey:
    """The object in the body; `owner` has one that does not say whose it is, as in 2.1.1. Raises OcpiRefused."""
    id, (country_code, party_id) = document.get("id"), owner or ("", "")
    party = document.get("country_code", country_code), document.get("party_id", party_id)
    if not is_id(id):
        raise OcpiRefused(2001, f"id is required: {ID_RULE}")
    if not all(isinstance(text, str) and text and is_text(text) for text in party):
        raise OcpiRefused(2001, "country_code and party_id are required")
    return ObjectKey.of(*party, id, visit.integration_id)


async def sender_of(tools: Tools, visit: Visit, key: ObjectKey, role: PartyRole.ValueType) -> Sender:
    """The partner, as far as it may send the object. Raises OcpiRefused."""
    return received.sender_of(await stored_of(tools, visit), visit.version, role, [key.party], key.party)


async def document_in(visit: Visit) -> Document:
    """The object in the body. Raises OcpiRefused."""
    body = visit.call.body
    try:
        value = await asyncio.to_thread(_parsed, body) if takes_long(body) else _parsed(body)
    except CodecError as fault:
        raise OcpiRefused(2000, f"the body {fault.problem}", status=400) from None
    if not isinstance(value, dict):
        raise OcpiRefused(2001, "the body must be an object")
    return value


def _parsed(body: bytes) -> Any:
    """Raises CodecError, also for what is nested so deeply that what is made of it might not be read in any thread."""
    value = parse_json(body)
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [item for items in inside for item in items]
        if not level:
            return value
    raise CodecError("", f"is nested more than {MAX_DEPTH} deep")


def check_owner(document: Document, key: ObjectKey) -> None:
    """Raises OcpiRefused when the object says that somebody else owns it, and for an id that none may have."""
    if not is_id(key.key):
        raise OcpiRefused(2001, f"the id of the URL must be {ID_RULE}")
    for name, of_url in (("country_code", key.country_code), ("party_id", key.party_id)):
        named = document.get(name, of_url)
        if not isinstance(named, str):
            raise OcpiRefused(2001, f"{name} must be that of the URL: {of_url}")
        if named.upper() != of_url:
            raise OcpiRefused(2001, f"{name} is not that of the URL", status=404)


@contextmanager
def refusing(version: str = "", noun: str = "") -> Iterator[None]:
    """What storing an object raises, as OCPI says it; with the names that the noun's members have in the version."""
    try:
        yield
    except ResourceNotFound as missing:
        if missing.metadata.get("resource") == "party":
            raise OcpiRefused(2001, "the party of the URL is not registered with us", status=404) from None
        raise unknown() from None
    except InvalidArgument as wrong:
        if version == "2.1.1" and wrong.violations:
            named = (FieldViolation(v2_1_1.member(noun, each.path), each.description) for each in wrong.violations)
            wrong = InvalidArgument.of(tuple(named))
        raise OcpiRefused(2001, wrong.message) from None


def done(receipt: Receipt, key: ObjectKey) -> Reply:
    """HTTP 201 for what is new. What was ignored or repaired is said in the log: OCPI has no place for it."""
    if receipt.outcome is Outcome.OLDER or receipt.notices:
        log.info(
            "received",
            extra={"object": key.shown, "outcome": receipt.outcome.value, "notices": len(receipt.notices)},
        )
    return Reply(body=enveloped(), status=201 if receipt.outcome is Outcome.CREATED else 200)


def timed(question: AuthorizationQuestion | ChargingPreferencesQuestion, lasts_s: float) -> None:
    """It is asked now, and over then."""
    now = datetime.now(UTC)
    question.create_time.FromDatetime(now)
    question.expire_time.FromDatetime(now + timedelta(seconds=lasts_s))


def enveloped(data: str = "") -> bytes:
    """The envelope of success, around JSON text."""
    member = f'"data":{data},' if data else ""
    text = f'{{{member}"status_code":1000,"status_message":"Success","timestamp":"{timestamp()}"}}'
    return text.encode()


async def shown(document: Document) -> Reply:
    """An object as its partner wrote it."""
    return Reply(body=enveloped(await by_size(partial(text_of, document), document)))
