"""CDRs of ours: recorded once, and taken back by credit CDRs."""

from collections.abc import Mapping
from typing import Any

from evbridge.v1.cdr_pb2 import Cdr, CdrKey
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR

from service.domain.charged import cdr_violations, credit_violations, credited
from service.domain.content import etag_of
from service.domain.keys import ObjectKey
from service.errors import CdrCredited, CdrRecorded, EvbridgeError, FieldViolation, InvalidArgument
from service.resources.charged import Charged
from service.resources.noun import Pending, dangling
from service.storage.cdr import cdr_credits, cdr_lock, cdr_put
from service.storage.connection import Connection


class Cdrs(Charged[Cdr]):
    noun = "cdr"
    kind = OBJECT_KIND_CDR
    key = CdrKey
    lock = staticmethod(cdr_lock)
    put = staticmethod(cdr_put)

    async def refused(
        self, conn: Connection, tenant_id: str, pending: Mapping[Any, Pending[Cdr]]
    ) -> Mapping[Any, EvbridgeError]:
        refused = dict(await super().refused(conn, tenant_id, pending))
        credits = {key: original for key, each in pending.items() if (original := credited(each.wanted))}
        originals = await cdr_lock(conn, tenant_id, set(credits.values())) if credits else {}
        taken_back = await cdr_credits(conn, tenant_id, originals.keys()) if originals else {}
        for key, each in pending.items():
            if key not in refused and (error := _error(key, each, credits, originals, taken_back)):
                refused[key] = error
            elif key in credits:
                taken_back.setdefault(credits[key], key.key)
        return refused


def _error(
    key: ObjectKey,
    pending: Pending[Cdr],
    credits: Mapping[ObjectKey, ObjectKey],
    originals: Mapping[ObjectKey, Cdr | None],
    taken_back: Mapping[ObjectKey, str],
) -> EvbridgeError | None:
    path, wanted, before = pending.path, pending.wanted, pending.before
    if before:
        if etag_of(wanted) == before.etag:
            return None
        return CdrRecorded(f"{key.shown} is recorded with other content, and a CDR never changes", id=key.shown)
    found = [*cdr_violations(wanted)]
    if (original := credits.get(key)) and not found:
        recorded = originals.get(original)
        if recorded is None:
            where = FieldViolation(f"{path}.credit_reference_id", "is not a CDR of the party")
            return dangling("cdr", original.shown, (where,))
        if original in taken_back:
            credit_id = taken_back[original]
            return CdrCredited(f"{original.shown} is taken back already", id=original.shown, credit_id=credit_id)
        found = [*credit_violations(wanted, recorded)]
    if not found:
        return None
    return InvalidArgument.of(tuple(FieldViolation(f"{path}.{each.path}", each.description) for each in found))


CDRS = Cdrs()
