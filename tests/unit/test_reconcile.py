"""What is done when it is not certain what the partner holds: a table."""

import pytest
from evbridge.v1.delivery_pb2 import PEER_OBJECT_STATE_LINKED, PEER_OBJECT_STATE_UNKNOWN

from service.delivery.reconcile import Held, reconciled
from service.domain.partner_error import PartnerChanged
from service.storage.peer import Peer

NEVER = Peer()
CREATING = Peer(state=PEER_OBJECT_STATE_UNKNOWN, sent_document=b"ours")
UPDATING = Peer(PEER_OBJECT_STATE_UNKNOWN, "x", 3, b"seen", b"ours")
DELETING = Peer(PEER_OBJECT_STATE_UNKNOWN, "x", 3, b"seen", None)
LINKED = Peer(PEER_OBJECT_STATE_LINKED, "x", 3, b"seen", b"ours")


def held(version: int, content: bytes, carries_sent: bool = False) -> Held:
    return Held("x", version, content, carries_sent)


GOES_ON = {
    # what we knew, what the partner holds: the version that the next request builds on
    "nothing was ever there": (NEVER, None, 0),
    "it is there before us and is adopted": (NEVER, held(7, b"theirs"), 7),
    "our create did not arrive": (CREATING, None, 0),
    "our create arrived": (CREATING, held(1, b"ours", carries_sent=True), 1),
    "our create met one that was there": (CREATING, held(7, b"theirs"), 7),
    "our update arrived": (UPDATING, held(4, b"ours", carries_sent=True), 4),
    "our update did not arrive": (UPDATING, held(3, b"seen"), 3),
    "only the version moved": (UPDATING, held(9, b"seen"), 9),
    "our delete arrived": (DELETING, None, 0),
    "our delete did not arrive": (DELETING, held(3, b"seen"), 3),
    "all is as we left it": (LINKED, held(3, b"seen", carries_sent=True), 3),
}

STOPS = {
    "someone changed it while our update was lost": (UPDATING, held(4, b"theirs")),
    "someone changed it afterwards": (LINKED, held(4, b"theirs")),
    "someone changed it and kept the version": (LINKED, held(3, b"theirs", carries_sent=True)),
    "someone removed it": (LINKED, None),
    "someone removed it while our update was lost": (UPDATING, None),
    "someone changed it while our delete was lost": (DELETING, held(4, b"theirs")),
}


@pytest.mark.parametrize(("peer", "found", "base"), GOES_ON.values(), ids=GOES_ON)
@pytest.mark.parametrize("overwrite", [False, True])
def test_it_goes_on_from_what_the_partner_holds(peer: Peer, found: Held | None, base: int, overwrite: bool) -> None:
    result = reconciled(peer, found, overwrite=overwrite, partner="p")
    assert result.acknowledged_version == base
    assert result.acknowledged_hash == (found.content if found else None)


@pytest.mark.parametrize(("peer", "found"), STOPS.values(), ids=STOPS)
def test_it_stops_at_someone_elses_change_unless_told(peer: Peer, found: Held | None) -> None:
    with pytest.raises(PartnerChanged):
        reconciled(peer, found, overwrite=False, partner="p")
    result = reconciled(peer, found, overwrite=True, partner="p")
    assert result.acknowledged_version == (found.version if found else 0)
