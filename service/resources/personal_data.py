"""Erases what leads to a driver, wherever it is stored: what the law asks for stays, with pseudonyms.

Each step is a transaction of its own and finds nothing once it is done, so that all of it may be done again.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR, OBJECT_KIND_SESSION, OBJECT_KIND_TOKEN, ObjectKind
from evbridge.v1.personal_data_pb2 import (
    KEPT_REASON_ACCOUNTS,
    KEPT_REASON_NOT_DELIVERED,
    KEPT_REASON_UNDER_WAY,
    PERSONAL_DATA_KIND_ANSWER,
    PERSONAL_DATA_KIND_CDR,
    PERSONAL_DATA_KIND_COMMAND,
    PERSONAL_DATA_KIND_EXCHANGE,
    PERSONAL_DATA_KIND_QUARANTINED_OBJECT,
    PERSONAL_DATA_KIND_QUESTION,
    PERSONAL_DATA_KIND_RUN_FINDING,
    PERSONAL_DATA_KIND_SESSION,
    PERSONAL_DATA_KIND_TOKEN,
    ErasePersonalDataRequest,
    ErasePersonalDataResponse,
    KeptReason,
    PersonalDataKind,
)
from evbridge.v1.session_pb2 import Session

from service.domain.caller import Caller
from service.domain.charged import has_ended
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.domain.personal_data import (
    Pseudonym,
    erase_charged,
    erase_fields,
    is_erased,
    is_pseudonym,
    message_patterns,
    names_of,
    pseudonym_of,
    replaced,
    text_patterns,
)
from service.domain.token import token_key
from service.resources.mutation import record
from service.resources.token import TOKENS
from service.storage.cdr import cdr_lock, cdr_replace
from service.storage.changes import DELETE, UPDATE, Change
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.personal_data import (
    Subject,
    blocks,
    personal_cdrs,
    personal_cdrs_old,
    personal_changes_replace,
    personal_command_replace,
    personal_commands,
    personal_delete,
    personal_documents,
    personal_documents_delete,
    personal_documents_replace,
    personal_finding_replace,
    personal_findings,
    personal_on_the_way,
    personal_peers,
    personal_peers_replace,
    personal_received_delete,
    personal_sessions,
    personal_sessions_old,
    personal_tokens,
    personal_tokens_delete,
)
from service.storage.pool import Database
from service.storage.session import session_lock, session_put

_PURPOSE: Final = "personal-data"
_SLICE = 100
"""Sessions or CDRs, with their documents, that are changed at once."""


class _Charged(NamedTuple):
    """Sessions or CDRs."""

    form: type[Any]
    object_kind: ObjectKind.ValueType
    kind: PersonalDataKind.ValueType
    lock: Callable[[Connection, str, Collection[ObjectKey]], Awaitable[Mapping[ObjectKey, Any]]]
    put: Callable[[Connection, str, Sequence[Any], Mapping[ObjectKey, Any]], Awaitable[None]]


_SESSIONS = _Charged(Session, OBJECT_KIND_SESSION, PERSONAL_DATA_KIND_SESSION, session_lock, session_put)
_CDRS = _Charged(Cdr, OBJECT_KIND_CDR, PERSONAL_DATA_KIND_CDR, cdr_lock, cdr_replace)


async def personal_data_erased(
    database: Database, keyring: Keyring, request: ErasePersonalDataRequest, caller: Caller
) -> ErasePersonalDataResponse:
    """Undone, but for the answer, when the request is `validate_only`."""
    erasure = _Erasure(database, keyring, caller, undo=request.validate_only)
    if request.HasField("token"):
        key = token_key(request.token)
        await erasure.erase(Subject("", key.party, key.key))
    else:
        await erasure.erase(Subject(request.contract_id.casefold()))
    response = ErasePersonalDataResponse()
    for kind, count in sorted(erasure.erased.items()):
        response.erased.add(kind=kind, count=count)
    for (kind, reason), count in sorted(erasure.kept.items()):
        response.kept.add(kind=kind, reason=reason, count=count)
    return response


async def personal_data_sweep(database: Database, keyring: Keyring, days: int) -> None:
    """Puts pseudonyms into sessions and CDRs that last changed so many days ago, in whatever state they are."""
    for of, old in ((_SESSIONS, personal_sessions_old), (_CDRS, personal_cdrs_old)):
        while found := await old(database, days, _SLICE):
            for tenant_id in {tenant_id for tenant_id, _ in found}:
                erasure = _Erasure(database, keyring, Caller(tenant_id, "retention", ROLE_WRITER))
                await erasure.charged(of, [key for owner, key in found if owner == tenant_id], whatever=True)


class _Undone(Exception):
    """Rolls a transaction back."""


class _Erasure:
    """`erased` and `kept` count. With `undo` nothing is changed."""

    def __init__(self, database: Database, keyring: Keyring, caller: Caller, *, undo: bool = False) -> None:
        self._database = database
        self._caller = caller
        self._tenant_id = caller.tenant_id
        self._pseudonym = _pseudonyms(keyring, caller.tenant_id)
        self._undo = undo
        self.erased: Counter[PersonalDataKind.ValueType] = Counter()
        self.kept: Counter[tuple[PersonalDataKind.ValueType, KeptReason.ValueType]] = Counter()

    async def erase(self, subject: Subject) -> None:
        """Tokens go last: until then they tell what else leads to the driver."""
        of = (self._database, self._tenant_id, subject)
        tokens = await personal_tokens(*of)
        names = {subject.contract or subject.uid}
        for token in tokens.values():
            names |= names_of(token) - ({token.contract_id.casefold()} if subject.token else set())
        for charged, keys in ((_SESSIONS, await personal_sessions(*of)), (_CDRS, await personal_cdrs(*of))):
            for first in range(0, len(keys), _SLICE):
                uids = await self.charged(charged, keys[first : first + _SLICE])
                names |= uids if subject.contract else set()
        messages, texts = message_patterns(sorted(names)), text_patterns(sorted(names))
        self._count(PERSONAL_DATA_KIND_QUESTION, await self._delete("question", messages))
        self._count(PERSONAL_DATA_KIND_ANSWER, await self._delete("idempotency", messages))
        self._count(PERSONAL_DATA_KIND_EXCHANGE, await self._delete("exchange", texts))
        self._count(PERSONAL_DATA_KIND_QUARANTINED_OBJECT, await self._delete("quarantine", texts))
        await self._delete("partner_document", messages)
        await self._commands(messages)
        await self._findings(names)
        gone = [key for key in sorted(tokens) if await self._token(key)]
        if gone:
            await self._changes({str(key): self._renamed(key) for key in gone})

    async def charged(self, of: _Charged, keys: Collection[ObjectKey], *, whatever: bool = False) -> set[str]:
        """Puts pseudonyms into sessions or CDRs; tells the folded uids of the tokens. `whatever` their state."""
        async with self._writing() as conn:
            locked = await of.lock(conn, self._tenant_id, keys)
            leading = {key: each for key, each in locked.items() if not is_erased(each)}
            uids = {each.cdr_token.uid.casefold() for each in leading.values()} - {""}
            if not whatever:
                stay = await self._stay(conn, of, leading)
                self.kept.update((of.kind, reason) for reason in stay.values())
                leading = {key: each for key, each in leading.items() if key not in stay}
            for each in leading.values():
                erase_charged(each, self._pseudonym)
                each.etag = etag_of(each)
            await of.put(conn, self._tenant_id, [leading[key] for key in sorted(leading)], locked)
            await self._shown(conn, of, [str(key) for key in leading if not key.integration_id])
            received = [key for key in leading if key.integration_id]
            await personal_received_delete(conn, self._tenant_id, of.object_kind, received)
            changes = [Change(str(key), UPDATE, each.etag, key.integration_id) for key, each in leading.items()]
            await record(conn, self._caller, of.object_kind, changes)
        if leading:
            self.erased[of.kind] += len(leading)
            self.kept[of.kind, KEPT_REASON_ACCOUNTS] += len(leading)
        return uids

    async def _stay(
        self, conn: Connection, of: _Charged, leading: Mapping[ObjectKey, Any]
    ) -> dict[ObjectKey, KeptReason.ValueType]:
        """Those that have to stay as they are for now."""
        stay: dict[ObjectKey, KeptReason.ValueType] = {
            key: KEPT_REASON_UNDER_WAY
            for key, each in leading.items()
            if isinstance(each, Session) and not has_ended(each)
        }
        ours = {str(key): key for key in leading if not (key.integration_id or key in stay)}
        on_the_way = await personal_on_the_way(conn, self._tenant_id, of.object_kind, ours)
        return stay | {ours[id]: KEPT_REASON_NOT_DELIVERED for id in on_the_way}

    async def _shown(self, conn: Connection, of: _Charged, ids: Sequence[str]) -> None:
        """What partners see, were shown and hold of those of ours."""

        def erased(payload: bytes) -> bytes:
            message = of.form.FromString(payload)
            erase_charged(message, self._pseudonym)
            serialized: bytes = message.SerializeToString(deterministic=True)
            return serialized

        at = (conn, self._tenant_id, of.object_kind, ids)
        new = {hash: erased(payload) for hash, payload in (await personal_documents(*at)).items()}
        if new:
            documents = {hash: (sha256(payload).digest(), payload) for hash, payload in new.items()}
            await personal_documents_replace(conn, self._tenant_id, documents)
        if peers := {key: erased(payload) for key, payload in (await personal_peers(*at)).items()}:
            await personal_peers_replace(conn, self._tenant_id, of.object_kind, peers)

    async def _token(self, key: ObjectKey) -> bool:
        """Whether nothing is stored of it any more; one of ours is deleted at first, and stays while that is told."""
        kept = (PERSONAL_DATA_KIND_TOKEN, KEPT_REASON_NOT_DELIVERED)
        async with self._writing() as conn:
            token = (await TOKENS.lock(conn, self._tenant_id, [key])).get(key)
            if token:
                await record(
                    conn, self._caller, TOKENS.kind, [Change(str(key), DELETE, token.etag, key.integration_id)]
                )
            if token and not key.integration_id:
                await TOKENS.remove(conn, self._tenant_id, key)
            at = (conn, self._tenant_id, OBJECT_KIND_TOKEN, [str(key)] if not key.integration_id else [])
            is_told = not await personal_on_the_way(*at)
            if is_told:
                documents = await personal_documents(*at)
                await personal_tokens_delete(conn, self._tenant_id, [key])
                await personal_documents_delete(conn, self._tenant_id, documents)
        if is_told:
            self.erased[PERSONAL_DATA_KIND_TOKEN] += 1
        else:
            self.kept[kept] += 1
        return is_told

    async def _delete(self, table: str, patterns: Sequence[str]) -> int:
        count = 0
        async for first, end in blocks(self._database, table):
            async with self._writing() as conn:
                count += await personal_delete(conn, self._tenant_id, table, first, end, patterns)
        return count

    async def _commands(self, patterns: Sequence[str]) -> None:
        async for first, end in blocks(self._database, "command"):
            async with self._writing() as conn:
                found = await personal_commands(conn, self._tenant_id, first, end, patterns)
                for id, command in found.items():
                    erase_fields(command, self._pseudonym)
                    await personal_command_replace(conn, self._tenant_id, id, command)
            self._count(PERSONAL_DATA_KIND_COMMAND, len(found))

    async def _findings(self, names: Collection[str]) -> None:
        """The ids of objects in them are a token's, or hold it."""
        async for first, end in blocks(self._database, "run_finding"):
            async with self._writing() as conn:
                found = await personal_findings(conn, self._tenant_id, first, end, text_patterns(names))
                for key, finding in found.items():
                    for name in ("object_id", "description"):
                        setattr(finding, name, replaced(getattr(finding, name), names, self._pseudonym))
                    await personal_finding_replace(conn, self._tenant_id, key, finding)
            self._count(PERSONAL_DATA_KIND_RUN_FINDING, len(found))

    async def _changes(self, ids: Mapping[str, str]) -> None:
        async for first, end in blocks(self._database, "change"):
            async with self._writing() as conn:
                await personal_changes_replace(conn, self._tenant_id, first, end, ids)

    def _renamed(self, key: ObjectKey) -> str:
        type, _, uid = key.key.partition("/")
        return f"{''.join(key.party)}{type}/{self._pseudonym(uid)}"

    def _count(self, kind: PersonalDataKind.ValueType, count: int) -> None:
        if count:
            self.erased[kind] += count

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Connection]:
        try:
            async with self._database.transaction() as conn:
                yield conn
                if self._undo:
                    raise _Undone
        except _Undone:
            pass


def _pseudonyms(keyring: Keyring, tenant_id: str) -> Pseudonym:
    @lru_cache(maxsize=1024)
    def pseudonym(text: str) -> str:
        if is_pseudonym(text):
            return text
        return pseudonym_of(keyring.digests(_PURPOSE, f"{tenant_id}/{text.casefold()}".encode())[0])

    return pseudonym
