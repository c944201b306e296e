"""A company's way to Chargeprice.

Chargeprice guards a company with a lock version of its own and knows no idempotency key. So what is sent is written
down before it leaves, a lost answer is settled by reading, and nobody else's change is overwritten unasked.
"""

from dataclasses import replace

from evbridge.partner.chargeprice.v1.company_pb2 import (
    CompanyDocument,
    CompanyResource,
    DeleteCompanyRequest,
    ListCompaniesRequest,
    UpsertCompanyRequest,
)
from evbridge.partner.chargeprice.v1.company_pb2_grpc import CompanyServiceStub
from evbridge.v1.company_pb2 import Company
from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED, PEER_OBJECT_STATE_NONE

from service.bridge.channel import PartnerChannel
from service.delivery.comparison import Compared
from service.delivery.disclosures import sending
from service.delivery.reconcile import Held, reconciled
from service.delivery.worker import Delivered
from service.domain.content import content_hash
from service.domain.partner_error import PartnerNotFound, PartnerOutcomeUnknown, PartnerVersionConflict
from service.partners.chargeprice.mapping import carries, comparable, document
from service.storage.company import company_current
from service.storage.delivery import Claim, PeerKey
from service.storage.peer import Peer, peer_get
from service.storage.pool import Database

PARTNER = "chargeprice"


class ChargepriceDeliverer:
    """Brings the current state of one company to one Chargeprice integration, and compares."""

    def __init__(self, database: Database, channel: PartnerChannel) -> None:
        self._database = database
        self._channel = channel

    async def at_once(self, tenant_id: str, integration_id: str) -> int:
        """One: it takes no more."""
        return 1

    async def deliver(self, claim: Claim) -> Delivered:
        """Raises PartnerChanged for someone else's change at the partner, LeaseLost, and what the channel raises."""
        try:
            return await self._deliver(claim, trusting=not claim.verify)
        except PartnerVersionConflict:
            # Somebody was faster. Perhaps with a newer state of ours: everything is read again, here and there.
            return await self._deliver(claim, trusting=False)

    async def _deliver(self, claim: Claim, *, trusting: bool) -> Delivered:
        """`trusting`: the partner holds what it is known to hold, if that was acknowledged."""
        async with self._database.connection() as conn:
            company = await company_current(conn, claim.tenant_id, claim.object_id)
            peer = await peer_get(conn, claim.peer_key)
        if company is None:
            return await self._delete(claim, peer)
        certain = trusting and peer.state == PEER_OBJECT_STATE_LINKED
        if certain and _same(peer.sent_document, document(company, 0)):
            return Delivered(peer, 0, "the partner already holds this state", answered=False)
        return await self._put(claim, company, peer, certain)

    async def _put(self, claim: Claim, company: Company, peer: Peer, certain: bool) -> Delivered:
        if not certain:
            held = await self._read(claim.peer_key)
            peer = reconciled(peer, _held(held, peer), overwrite=claim.overwrite, partner=PARTNER)
            if held is not None and carries(held, document(company, 0)):
                sent = document(company, held.attributes.version).SerializeToString()
                return Delivered(replace(peer, sent_document=sent), 0, "found at the partner as it should be")
        version = peer.acknowledged_version + 1
        body = document(company, version)
        request = UpsertCompanyRequest(integration_id=claim.integration_id, company_id=claim.object_id, document=body)
        stub = self._channel.stub(CompanyServiceStub, claim.tenant_id)
        async with sending(self._database, claim, peer, body.SerializeToString(), body):
            answer: CompanyDocument = await stub.UpsertCompany(request)
            if (answer.data.id.lower(), answer.data.attributes.version) != (claim.object_id, version):
                raise PartnerOutcomeUnknown("the answer is about another object or version", partner=PARTNER)
        acknowledged = Peer(
            state=PEER_OBJECT_STATE_LINKED,
            external_id=answer.data.id,
            acknowledged_version=answer.data.attributes.version,
            acknowledged_hash=content_hash(comparable(answer)),
            sent_document=body.SerializeToString(),
        )
        return Delivered(acknowledged, version, f"stored at the partner as version {version}")

    async def _delete(self, claim: Claim, peer: Peer) -> Delivered:
        if peer.state == PEER_OBJECT_STATE_NONE:
            return Delivered(None, 0, "the partner does not hold it", answered=False)
        request = DeleteCompanyRequest(integration_id=claim.integration_id, company_id=claim.object_id)
        try:
            async with sending(self._database, claim, peer, None, None):
                await self._channel.stub(CompanyServiceStub, claim.tenant_id).DeleteCompany(request)
        except PartnerNotFound:
            if await self._read(claim.peer_key) is not None:  # an outage may answer so, too
                raise
            return Delivered(None, 0, "was already gone at the partner")
        return Delivered(None, 0, "deleted at the partner")

    async def compare(self, key: PeerKey) -> Compared:
        async with self._database.connection() as conn:
            company = await company_current(conn, key.tenant_id, key.object_id)
            peer = await peer_get(conn, key)
        held = await self._read(key)
        return Compared(
            comparable(document(company, 0)) if company else None,
            comparable(CompanyDocument.FromString(peer.sent_document)) if peer.sent_document else None,
            comparable(held) if held else None,
        )

    async def _read(self, key: PeerKey) -> CompanyResource | None:
        request = ListCompaniesRequest(integration_id=key.integration_id, filter_id=key.object_id)
        page = await self._channel.stub(CompanyServiceStub, key.tenant_id).ListCompanies(request)
        return next((company for company in page.data if company.id.lower() == key.object_id), None)


def _same(sent: bytes | None, wanted: CompanyDocument) -> bool:
    return sent is not None and comparable(CompanyDocument.FromString(sent)) == comparable(wanted)


def _held(company: CompanyResource | None, peer: Peer) -> Held | None:
    if company is None:
        return None
    sent = peer.sent_document
    return Held(
        external_id=company.id,
        version=company.attributes.version,
        content=content_hash(comparable(company)),
        carries_sent=sent is not None and carries(company, CompanyDocument.FromString(sent)),
    )
