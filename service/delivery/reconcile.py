"""What to do when it is not certain what the partner holds: compare, then go on, be done, or stop. Pure."""

from dataclasses import dataclass, replace

from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED

from service.domain.partner_error import PartnerChanged
from service.storage.peer import Peer


@dataclass(frozen=True, slots=True)
class Held:
    """What the partner holds now. `content` is a hash; `carries_sent`: everything that we last sent stands in it."""

    external_id: str
    version: int
    content: bytes
    carries_sent: bool


def reconciled(peer: Peer, held: Held | None, *, overwrite: bool, partner: str) -> Peer:
    """What to base the next request on, after reading the partner.

    - The partner has nothing, and never acknowledged anything or was sent a delete: the next request creates.
    - What we last sent stands there under a newer version: our lost answer was a success.
    - We have never seen it before: it is the same object by its id, so it is adopted as it stands.
    - Its content is what we last saw: only the version moved, nobody's change is lost by going on.
    - Anything else is someone's change: raises PartnerChanged, unless `overwrite`.
    """
    if held is None:
        if peer.acknowledged_version == 0 or peer.sent_document is None or overwrite:
            return Peer()
        raise PartnerChanged(
            "the object was removed at the partner",
            partner=partner,
            acknowledged_version=str(peer.acknowledged_version),
        )
    seen = replace(
        peer,
        state=PEER_OBJECT_STATE_LINKED,
        external_id=held.external_id,
        acknowledged_version=held.version,
        acknowledged_hash=held.content,
    )
    if held.carries_sent and held.version > peer.acknowledged_version:
        return seen
    if peer.acknowledged_version == 0 or held.content == peer.acknowledged_hash or overwrite:
        return replace(seen, sent_document=None)
    raise PartnerChanged(
        "someone else changed the object at the partner",
        partner=partner,
        partner_version=str(held.version),
        acknowledged_version=str(peer.acknowledged_version),
    )
