"""What an OCPI party holds of our objects, read from its receivers. Parties need not answer that: some do not."""

import json
from typing import Any, Final

from evbridge.partner.ocpi.v2.cdrs_pb2 import GetCdrAtRequest
from evbridge.partner.ocpi.v2.cdrs_pb2_grpc import CdrsReceiverServiceStub
from evbridge.partner.ocpi.v2.hub_client_info_pb2 import GetClientInfoRequest
from evbridge.partner.ocpi.v2.hub_client_info_pb2_grpc import HubClientInfoReceiverServiceStub
from evbridge.partner.ocpi.v2.invoice_reconciliation_pb2 import GetReceivedInvoiceReconciliationRecordRequest
from evbridge.partner.ocpi.v2.invoice_reconciliation_pb2_grpc import InvoiceReconciliationReceiverServiceStub
from evbridge.partner.ocpi.v2.locations_pb2 import GetReceivedLocationRequest
from evbridge.partner.ocpi.v2.locations_pb2_grpc import LocationsReceiverServiceStub
from evbridge.partner.ocpi.v2.sessions_pb2 import GetReceivedSessionRequest
from evbridge.partner.ocpi.v2.sessions_pb2_grpc import SessionsReceiverServiceStub
from evbridge.partner.ocpi.v2.tariffs_pb2 import GetReceivedTariffRequest
from evbridge.partner.ocpi.v2.tariffs_pb2_grpc import TariffsReceiverServiceStub
from evbridge.partner.ocpi.v2.tokens_pb2 import GetReceivedTokenRequest
from evbridge.partner.ocpi.v2.tokens_pb2_grpc import TokensReceiverServiceStub
from evbridge.v1.cdr_pb2 import Cdr
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_CDR,
    OBJECT_KIND_HUB_CLIENT,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD,
    OBJECT_KIND_LOCATION,
    OBJECT_KIND_SESSION,
    OBJECT_KIND_TARIFF,
    OBJECT_KIND_TOKEN,
)
from evbridge.v1.hub_client_pb2 import HubClient
from evbridge.v1.invoice_reconciliation_pb2 import InvoiceReconciliationRecord
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.token_pb2 import Token
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.delivery.comparison import Compared, reading
from service.delivery.views import view_now
from service.domain.keys import ObjectKey
from service.domain.partner_error import PartnerError, PartnerNotFound, PartnerRejected
from service.errors import EndpointMissing, EvbridgeError
from service.partners.ocpi.mapping import CodecError, object_from, object_to, parsed, struct_of
from service.partners.ocpi.pushes import Pushes
from service.partners.ocpi.reach import reached
from service.storage.clock import Clock
from service.storage.delivery import PeerKey
from service.storage.peer import Peer, peer_get
from service.storage.pool import Database

_FORMS: Final[dict[int, Any]] = {
    OBJECT_KIND_LOCATION: Location,
    OBJECT_KIND_TARIFF: Tariff,
    OBJECT_KIND_TOKEN: Token,
    OBJECT_KIND_SESSION: Session,
    OBJECT_KIND_CDR: Cdr,
    OBJECT_KIND_HUB_CLIENT: HubClient,
    OBJECT_KIND_INVOICE_RECONCILIATION_RECORD: InvoiceReconciliationRecord,
}
_READS_NOTHING = (404, 405, 501)


class OcpiComparer:
    """The three as objects of the version spoken with the party, without the times at which they changed."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def compare(self, key: PeerKey) -> Compared:
        """Raises EndpointMissing when the party lets nobody read its copy, and what the channel raises."""
        form = _FORMS[key.object_kind]
        async with self._database.connection() as conn:
            pushes = Pushes(await reached(conn, key.tenant_id, key.integration_id))
            peer = await peer_get(conn, key)
        look = await view_now(self._database, reading(key), Clock())
        if not pushes.url(key.object_kind):
            raise EndpointMissing(pushes.reason(key.object_kind))
        version = pushes.partner.version
        ours = look.shown if look.seen or peer.sent_document else None
        if ours is not None:
            ours.last_updated.GetCurrentTime()  # required, and not compared
        sent = form.FromString(peer.sent_document) if peer.sent_document else None
        named = ours or sent
        held = await self._held(key, named, peer, pushes.url(key.object_kind)) if named is not None else None
        return Compared(
            None if ours is None else _plain(object_to(ours, version).object),
            None if sent is None else _plain(object_to(sent, version).object),
            None if held is None else _plain(_known(held, named, version)),
        )

    async def _held(self, key: PeerKey, named: Any, peer: Peer, url: str) -> dict[str, Any] | None:
        """None when the party says that it has none."""
        try:
            answer = await self._read(key, named, peer, url)
        except (PartnerNotFound, PartnerRejected) as error:
            if isinstance(error, PartnerNotFound) and error.partner_code.startswith("2"):
                return None
            raise _unreadable(error) from None
        return MessageToDict(answer.data)

    async def _read(self, key: PeerKey, named: Any, peer: Peer, url: str) -> Any:
        def stub(of: Any) -> Any:
            return self._channel.stub(of, key.tenant_id)

        at = {"integration_id": key.integration_id, "url": url}
        if key.object_kind == OBJECT_KIND_CDR:
            if not peer.external_id:
                raise EndpointMissing("where the party has the CDR is not known: its answer named no URL")
            return await stub(CdrsReceiverServiceStub).GetCdrAt(GetCdrAtRequest(**at | {"url": peer.external_id}))
        at |= {"country_code": named.country_code, "party_id": named.party_id}
        if key.object_kind == OBJECT_KIND_HUB_CLIENT:
            return await stub(HubClientInfoReceiverServiceStub).GetClientInfo(GetClientInfoRequest(**at))
        if key.object_kind == OBJECT_KIND_LOCATION:
            request = GetReceivedLocationRequest(**at, location_id=named.id)
            return await stub(LocationsReceiverServiceStub).GetReceivedLocation(request)
        if key.object_kind == OBJECT_KIND_TARIFF:
            return await stub(TariffsReceiverServiceStub).GetReceivedTariff(
                GetReceivedTariffRequest(**at, tariff_id=named.id)
            )
        if key.object_kind == OBJECT_KIND_SESSION:
            return await stub(SessionsReceiverServiceStub).GetReceivedSession(
                GetReceivedSessionRequest(**at, session_id=named.id)
            )
        if key.object_kind == OBJECT_KIND_INVOICE_RECONCILIATION_RECORD:
            return await stub(InvoiceReconciliationReceiverServiceStub).GetReceivedInvoiceReconciliationRecord(
                GetReceivedInvoiceReconciliationRecordRequest(**at, record_id=named.id)
            )
        return await stub(TokensReceiverServiceStub).GetReceivedToken(
            GetReceivedTokenRequest(**at, token_uid=named.uid)
        )


def _unreadable(error: PartnerError) -> EvbridgeError:
    """What to say of a refusal: OCPI does not oblige a party to let its copy be read."""
    if error.http_status in _READS_NOTHING:
        return EndpointMissing(f"the partner does not let its copy be read: it answers HTTP {error.http_status}")
    return error


def _known(held: dict[str, Any], named: Any, version: str) -> dict[str, Any]:
    """What of the party's object is OCPI's, written as we write it; all of it where that cannot be read."""
    exact: dict[str, Any] = parsed(json.dumps(held).encode())
    try:
        owner = ObjectKey.of(named.country_code, named.party_id, "").party
        read = object_from(type(named), exact, version, owner, getattr(named, "time_zone", "")).message
        if isinstance(read, Session) and isinstance(named, Session):
            read.location.CopyFrom(named.location)  # 2.1.1 sends it along, and reads none
        return object_to(read, version).object
    except (CodecError, EvbridgeError):
        return exact


def _plain(written: dict[str, Any]) -> Message:
    return struct_of(_timeless(written))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(item) for name, item in value.items() if name != "last_updated"}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
