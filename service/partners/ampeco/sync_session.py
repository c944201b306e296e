"""Imports sessions, and makes one CDR of each that has ended.

A page is stored, then it is noted that it was: a run whose process dies reads one page again, which changes nothing. A
session and its CDR are stored in one transaction, and both have one id: however often it is read, there is one.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from evbridge.partner.ampeco.v3.session_pb2 import GetSessionRequest, ListSessionsRequest
from evbridge.partner.ampeco.v3.session_pb2 import Session as AmpecoSession
from evbridge.partner.ampeco.v3.session_pb2_grpc import SessionServiceStub
from evbridge.v1.cdr_pb2 import CDR_AUDIT_STATE_NOT_AUDITED, Cdr, CdrAudit
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR, OBJECT_KIND_SESSION
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.run_pb2 import RUN_STEP_STATE_SUCCEEDED, RunStep
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED, Session
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.bridge.codec import CodecError, compile_codec
from service.domain.billing import Place, compared
from service.domain.keys import ObjectKey, key_of
from service.domain.pages import link_noted
from service.domain.partner_error import PartnerError, PartnerFault, PartnerNotFound
from service.errors import EvbridgeError, FieldViolation, InvalidArgument
from service.partners.ampeco.mapping import time_of
from service.partners.ampeco.mapping_session import charged, is_remote_start, session_from
from service.partners.ampeco.references import place_of, token_of
from service.partners.ampeco.source import CONTRACT, PER_PAGE, Source
from service.resources.billing import billed, tariff_of
from service.resources.cdr import CDRS
from service.resources.mutation import put, record
from service.resources.session import SESSIONS
from service.runs.importing import text_of, unreadable, violations_of
from service.runs.worker import Progress, Tools
from service.storage.cdr import cdr_audited, cdr_find
from service.storage.changes import UPDATE, Change, change_time
from service.storage.connection import Connection
from service.storage.notified import notified_is_due, notified_page, notified_read
from service.storage.pull import Pull, pull_begin, pull_end, pull_get, pull_read
from service.storage.quarantine import Quarantined, quarantine_again, quarantine_put, quarantine_release
from service.storage.run import RunClaim, run_findings_keep
from service.storage.session import session_find

OVERLAP: Final = timedelta(minutes=10)
"""How much of what was read before is read again: a page may move while it is read."""
_LIST: Final = f"{CONTRACT}.SessionService/StreamSessions"
_MAX_PAGES: Final = 100_000
_COUNTS: Final = (
    "page_count",
    "read_count",
    "created_count",
    "updated_count",
    "unchanged_count",
    "refused_count",
    "repaired_count",
)


@dataclass(slots=True)
class _Made:
    """A session about to be stored, the CDR that it becomes, and what AMPECO charged for it."""

    remote: AmpecoSession
    session: Session
    cdr: Cdr | None = None
    audit: CdrAudit | None = None


class SessionImport(Source):
    """The list of sessions, as far as a run read it."""

    def __init__(self, tools: Tools, run: RunClaim, progress: Progress, integration: Integration) -> None:
        super().__init__(tools, run, progress, integration)
        began = integration.ampeco.sessions_from
        self._from: Timestamp = began if integration.ampeco.HasField("sessions_from") else integration.create_time
        self._left_out: Counter[str] = Counter()
        self._refused: list[Quarantined] = []
        self._step = RunStep()

    async def begun(self) -> bool:
        """Whether an attempt of the run before this one began to read the list; then what it found is kept."""
        pull = await self._pull()
        if pull is None or pull.run_id != self._run.run_id:
            return False
        self._progress.goes_on(await run_findings_keep(self._database, self._run))
        return True

    async def all(self) -> None:
        """Reads on where the run was. Raises what the channel raises."""
        self._begin()
        pull = await self._pull()
        if pull is None or pull.run_id != self._run.run_id:
            pull = await pull_begin(self._database, self._run, OBJECT_KIND_SESSION, whole=False)
        for name, count in zip(_COUNTS, pull.counts, strict=False):
            setattr(self._step, name, count)
        request = ListSessionsRequest(
            integration_id=self._integration.id,
            cursor="",
            per_page=PER_PAGE,
            with_charging_periods=True,
            filter_started_after=self._from.ToJsonString(),
        )
        if pull.watermark and not self._run.sync_options.whole:
            request.filter_last_updated_after = f"{pull.watermark - OVERLAP:%Y-%m-%dT%H:%M:%SZ}"
        pages = self._channel.registry.pages[_LIST]
        while pull.next_link is not None and (pull.next_link or not self._step.page_count):
            page = await self._channel.page(pages, request, tenant_id=self._run.tenant_id, start=pull.next_link)
            self._step.page_count += 1
            for reject in page.rejects:
                self._reject(reject)
            await self._take(page.message.data)
            pull = pull._replace(
                next_link=page.next_link,
                highest=max(filter(None, (pull.highest, *map(_changed, page.message.data))), default=None),
                counts=self._counts(),
                noted_link=link_noted(pull.noted_link, page.next_link, self._step.page_count, "ampeco"),
            )
            async with self._writing() as conn:
                await pull_read(conn, self._run, OBJECT_KIND_SESSION, pull, ())
            if pull.next_link and self._step.page_count >= _MAX_PAGES:
                raise PartnerFault(f"the list of sessions has more than {_MAX_PAGES:,} pages", partner="ampeco")
            if pull.next_link:
                self._progress.rest()
        await pull_end(self._database, self._run, OBJECT_KIND_SESSION, pull._replace(counts=self._counts()))
        self._end()

    async def again(self) -> None:
        """Tries once more what is quarantined."""
        self._begin()
        after, codec = 0, compile_codec(AmpecoSession.DESCRIPTOR, field_names=False, lenient=True)
        while rows := await quarantine_again(self._database, self._run, OBJECT_KIND_SESSION, "", after, PER_PAGE):
            after = rows[-1].position
            remotes = []
            for row in rows:
                try:
                    remotes.append(codec.decode(row.document).message)
                except CodecError as error:
                    self._reject(CodecError(f"/data/0{error.pointer}", error.problem, row.object_id, row.document))
            await self._take(remotes)
        self._end()

    async def notified(self) -> None:
        """Reads those that notifications named, each by its id. Raises what the channel raises: they are due again."""
        self._begin()
        of = (self._run.tenant_id, self._run.integration_id)
        while noted := await notified_page(self._database, *of, OBJECT_KIND_SESSION, PER_PAGE):
            try:
                remotes = [remote for id in noted if (remote := await self._read(id))]
            except PartnerError:
                async with self._writing() as conn:
                    await notified_is_due(conn, *of)
                raise
            await self._take(remotes)
            async with self._writing() as conn:
                await notified_read(conn, *of, OBJECT_KIND_SESSION, noted)
        self._end()

    async def _read(self, id: str) -> AmpecoSession | None:
        """None for one that is not there, or cannot be read."""
        request = GetSessionRequest(integration_id=self._integration.id, session_id=int(id), with_charging_periods=True)
        try:
            answer = await self._channel.stub(SessionServiceStub, self._run.tenant_id).GetSession(request)
        except PartnerNotFound:
            self._left_out["not there"] += 1
            return None
        except PartnerFault as error:
            self._step.read_count += 1
            found = [FieldViolation("", error.message)]
            self._progress.refused(id, found)
            self._refused.append(Quarantined(id, id, found, ""))
            return None
        remote: AmpecoSession = answer.data
        return remote

    def _begin(self) -> None:
        self._progress.begin("sessions")
        self._step = self._progress.report.steps[-1]

    def _end(self) -> None:
        left_out = ", ".join(f"{count} left out as {why}" for why, count in sorted(self._left_out.items()))
        self._progress.close(RUN_STEP_STATE_SUCCEEDED, left_out)

    async def _pull(self) -> Pull | None:
        return await pull_get(self._database, self._run.tenant_id, self._run.integration_id, OBJECT_KIND_SESSION)

    async def _take(self, remotes: Sequence[AmpecoSession]) -> None:
        """Stores what can be stored of a page. One that is shown twice counts as it is shown last."""
        self._step.read_count += len(remotes)
        self._progress.count(self._step.read_count, description="reads sessions")
        shown = {each.id: each for each in remotes}
        self._step.unchanged_count += len(remotes) - len(shown)
        places = await self._places(shown.values())
        keys = {id: ObjectKey.of(*key_of(place.location).party, self._id(id)) for id, place in places.items()}
        sessions = await session_find(self._database, self._run.tenant_id, keys.values())
        cdrs = await cdr_find(self._database, self._run.tenant_id, keys.values())
        made: list[_Made] = []
        for id, place in places.items():
            try:
                made.append(await self._made(shown[id], place, sessions.get(keys[id]), cdrs.get(keys[id])))
            except EvbridgeError as error:
                self._refuse(shown[id], violations_of(error))
        async with self._writing() as conn:
            await self._store(conn, made, sessions)
            refused, self._refused = self._refused, []
            await quarantine_put(conn, self._run, OBJECT_KIND_SESSION, "", refused)
            taken = shown.keys() - {each.key for each in refused}
            await quarantine_release(conn, self._run, OBJECT_KIND_SESSION, taken)

    async def _places(self, remotes: Iterable[AmpecoSession]) -> dict[str, Place]:
        """Where each is, by its id there; without those that are left out or refused."""
        places: dict[str, Place] = {}
        for remote in remotes:
            if why := self._why_not(remote):
                self._left_out[why] += 1
                continue
            try:
                places[remote.id] = await place_of(self._database, self._run.tenant_id, self._integration, remote)
            except InvalidArgument as error:
                self._refuse(remote, violations_of(error))
        return places

    def _why_not(self, remote: AmpecoSession) -> str:
        start = time_of(remote.started_at)
        if start and start.ToDatetime(UTC) < self._from.ToDatetime(UTC):
            return "started before sessions_from"
        return "started by AMPECO itself" if is_remote_start(remote) else ""

    async def _made(self, remote: AmpecoSession, place: Place, held: bytes | None, held_cdr: bytes | None) -> _Made:
        """Of what is held already, the session and the CDR. Raises InvalidArgument when it cannot be a session.

        What keeps it from being billed is noted.
        """
        token = await token_of(self._database, self._run.tenant_id, remote)
        session, notices = session_from(remote, place, token, self._integration.ampeco.currency)
        if notices:
            self._progress.repaired(remote.id, notices)
        session.country_code, session.party_id = key_of(place.location).party
        session.id = self._id(remote.id)
        made = _Made(remote, session, Cdr.FromString(held_cdr) if held_cdr else None)
        before = Session.FromString(held or b"")
        try:
            # The tariff that it began with stays.
            begun = before if before.charging_periods else session
            tariff = await tariff_of(self._database, self._run.tenant_id, begun, place, token.integration_id)
            for period in session.charging_periods:
                period.tariff_id = tariff.id if tariff else ""
            if session.status == SESSION_STATUS_COMPLETED:
                await self._price(made, place, tariff)
        except EvbridgeError as error:
            self._refuse(remote, _of_cdr(violations_of(error)))
        return made

    async def _price(self, made: _Made, place: Place, tariff: Tariff | None) -> None:
        """Makes the CDR, unless there is one. Raises InvalidArgument when it has no price."""
        if made.cdr:
            self._compare(made.remote, made.session, made.cdr)
        elif tariff is None and not _is_free(made.remote):
            raise InvalidArgument.field("/connectorId", "has no tariff here: it was not imported, or is not shown")
        else:
            made.cdr = await billed(self._tools.processes, self._run.tenant_id, made.session, place, tariff)
        made.audit = self._audit(made.remote, made.cdr)
        made.session.total_cost.CopyFrom(made.cdr.total_cost)

    def _audit(self, remote: AmpecoSession, cdr: Cdr) -> CdrAudit:
        price = charged(remote)
        if price is None:
            why = "what AMPECO charged is not final yet, or not told"
            audit = CdrAudit(state=CDR_AUDIT_STATE_NOT_AUDITED, description=why)
        else:
            audit = compared(cdr, price, remote.currency)
            found = [FieldViolation(each.path, each.message) for each in audit.differences]
            self._progress.different(remote.id, found)
        audit.audit_time.FromDatetime(datetime.now(UTC))
        return audit

    def _compare(self, remote: AmpecoSession, session: Session, cdr: Cdr) -> None:
        """A CDR never changes: what AMPECO says otherwise since is for a person, who may take it back."""
        pairs = (
            ("start_date_time", session.start_date_time, cdr.start_date_time),
            ("end_date_time", session.end_date_time, cdr.end_date_time),
            ("charging_periods", [*session.charging_periods], [*cdr.charging_periods]),
        )
        self._progress.different(
            remote.id,
            [FieldViolation(name, "has changed since its CDR was recorded") for name, a, b in pairs if a != b],
        )

    async def _store(self, conn: Connection, made: Sequence[_Made], before: Mapping[ObjectKey, bytes]) -> None:
        """Sessions first; those that are refused have no CDR."""
        if not made:
            return
        now = await change_time(conn)
        upserts = [self._upsert(SESSIONS, each.session, each.remote.id) for each in made]
        stored = await put(conn, self._caller, now, upserts)
        ended: list[_Made] = []
        for each, upsert, result in zip(made, upserts, stored, strict=True):
            if isinstance(result, EvbridgeError):
                self._refuse(each.remote, violations_of(result, upsert.path))
                continue
            changed = result.last_updated.ToDatetime(UTC) >= now
            name = "unchanged_count" if not changed else "updated_count" if upsert.key in before else "created_count"
            setattr(self._step, name, getattr(self._step, name) + 1)
            if each.cdr:
                ended.append(each)
        await self._bill(conn, now, ended)

    async def _bill(self, conn: Connection, now: datetime, ended: Sequence[_Made]) -> None:
        new = [each for each in ended if each.cdr and not each.cdr.HasField("create_time")]
        for each in new:
            each.cdr.audit.CopyFrom(each.audit or CdrAudit())  # type: ignore[union-attr]
        if new:
            upserts = [self._upsert(CDRS, each.cdr, each.remote.id) for each in new]
            for each, upsert, result in zip(new, upserts, await put(conn, self._caller, now, upserts), strict=True):
                if isinstance(result, EvbridgeError):
                    self._refuse(each.remote, _of_cdr(violations_of(result, upsert.path)))
        for each in ended:
            # What was not final when it was recorded.
            if each not in new and each.cdr and each.audit and each.audit.state != CDR_AUDIT_STATE_NOT_AUDITED:
                key = key_of(each.session)
                each.cdr.audit.CopyFrom(each.audit)
                if await cdr_audited(conn, self._run.tenant_id, key, each.cdr, None):
                    await record(conn, self._caller, OBJECT_KIND_CDR, [Change(str(key), UPDATE, each.cdr.etag)])

    def _refuse(self, remote: AmpecoSession, found: Collection[FieldViolation]) -> None:
        self._progress.refused(remote.id, found)
        self._refused.append(Quarantined(remote.id, remote.id, [*found], text_of(remote)))

    def _reject(self, reject: CodecError) -> None:
        """One that cannot be read."""
        self._step.read_count += 1
        self._progress.refused(reject.object_id, [FieldViolation(reject.pointer, reject.problem)])
        self._refused.append(unreadable(reject))

    def _counts(self) -> list[int]:
        return [getattr(self._step, name) for name in _COUNTS]


def _of_cdr(found: Collection[FieldViolation]) -> list[FieldViolation]:
    """What keeps a session from being billed; where it is no member of AMPECO's, it is a field of the CDR."""
    return [each if each.path.startswith("/") else replace(each, path=f"cdr.{each.path}") for each in found]


def _changed(remote: AmpecoSession) -> datetime | None:
    changed = time_of(remote.last_updated_at)
    return changed and changed.ToDatetime(UTC)


def _is_free(remote: AmpecoSession) -> bool:
    price: Any = charged(remote)
    return price is not None and not any(float(amount.value) for _, amount in price.ListFields())
