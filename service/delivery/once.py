"""An object that is recorded at a partner once: before it is sent a second time the partner is read.

A bill that is recorded twice is charged twice. So what was sent and not acknowledged is looked for, and sent again only
when the partner says that it is not there. Where reading does not tell, the delivery is parked until somebody decides.
"""

from typing import Protocol

from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED, PEER_OBJECT_STATE_NONE
from google.protobuf.message import Message

from service.delivery.disclosures import sending
from service.delivery.worker import Delivered
from service.domain.partner_error import PartnerError, PartnerFault, PartnerOutcomeUnknown, PartnerOutcomeUnsettled
from service.errors import EvbridgeError
from service.storage.delivery import Claim
from service.storage.peer import Peer, peer_gone
from service.storage.pool import Database


class Record(Protocol):
    """How a partner is asked about the object. Each raises what the channel raises."""

    @property
    def partner(self) -> str: ...

    async def create(self) -> str:
        """Records it. The partner's id or URL of it; "" when its answer names none."""
        ...

    async def found(self, external_id: str) -> str | None:
        """The same of one that is there, "" when it is not, None when reading does not tell."""
        ...


async def recorded(database: Database, claim: Claim, peer: Peer, document: Message, record: Record) -> Delivered:
    """Sees that the partner has it, once.

    Raises PartnerOutcomeUnsettled when that is not known and nobody said that it may be sent again, LeaseLost, and what
    `record` raises.
    """
    payload = document.SerializeToString()
    is_linked = peer.state == PEER_OBJECT_STATE_LINKED
    if is_linked and not claim.verify:
        return Delivered(peer, 0, "the partner already holds it", answered=False)
    if peer.state != PEER_OBJECT_STATE_NONE:
        external_id = await record.found(peer.external_id)
        if external_id or (external_id is None and is_linked):
            linked = Peer(PEER_OBJECT_STATE_LINKED, external_id or peer.external_id, sent_document=payload)
            return Delivered(linked, 0, "was recorded at the partner" if external_id else "was acknowledged before")
        if (external_id is None or is_linked) and not claim.overwrite:
            raise PartnerOutcomeUnsettled(
                "whether the partner has it is not known; RetryDelivery with overwrite_partner_change sends it again",
                partner=record.partner,
            )
    async with sending(database, claim, Peer(), payload, document):
        try:
            external_id = await record.create()
        except EvbridgeError as error:
            if not _may_be_recorded(error):
                async with database.transaction() as conn:
                    await peer_gone(conn, claim)
            raise
    return Delivered(Peer(PEER_OBJECT_STATE_LINKED, external_id, sent_document=payload), 1, "recorded at the partner")


def _may_be_recorded(error: EvbridgeError) -> bool:
    """What is no answer of the partner's was found out before anything was sent."""
    return isinstance(error, PartnerError) and isinstance(error, PartnerOutcomeUnknown | PartnerFault)
