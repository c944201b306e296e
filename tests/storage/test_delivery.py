"""Claims, leases and fencing; what retention keeps; one answer for one request id."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from evbridge.v1.company_pb2 import Company
from evbridge.v1.delivery_pb2 import (
    OBJECT_KIND_COMPANY,
    OBJECT_KIND_CONNECTOR,
    OBJECT_KIND_LOCATION,
    PEER_OBJECT_STATE_LINKED,
)
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_TYPE_CHARGEPRICE,
    Integration,
)

from service.domain.breaker import Scope
from service.domain.caller import Caller
from service.domain.delivery import Next, Streak, Verdict
from service.domain.keys import ObjectKey
from service.domain.partner_error import PartnerFault
from service.domain.secret import Secret
from service.errors import LeaseLost, RequestIdReused
from service.storage.api_key import api_key_create, api_key_first
from service.storage.changes import CREATE, change_record, idempotency_claim, idempotency_keep
from service.storage.company import company_put, company_tombstone
from service.storage.connection import Connection
from service.storage.delivery import (
    Claim,
    Waiting,
    delivery_claim,
    delivery_failed,
    delivery_renew,
    delivery_waiting,
)
from service.storage.disclosure import disclosure_sending
from service.storage.gate import gate_failed, gate_hold, gate_resume, gate_succeeded
from service.storage.integration import integration_insert, secrets_get, secrets_put, secrets_rewrap
from service.storage.keyring import Keyring, SealBroken
from service.storage.location import location_put, location_tombstone
from service.storage.peer import (
    PartKey,
    Peer,
    peer_acknowledged,
    peer_delivered,
    peer_get,
    peer_gone,
    peer_part_acknowledged,
    peer_part_sending,
    peer_parts,
)
from service.storage.pool import Database
from service.storage.retention import retention_sweep
from service.storage.statements import Statement
from service.storage.tariff import tariff_put, tariff_tombstone
from tests.front_door import a_location, a_tariff

CALLER = Caller("acme", "key", 3)
COMPANY_ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
FAULT = PartnerFault("", partner="p")
PART = PartKey(OBJECT_KIND_CONNECTOR, ("e1", "1"))
# Everything that a worker writes about its claim.
FENCED: dict[str, Callable[[Database, Connection, Claim], Awaitable[None]]] = {
    "it renews its lease": lambda database, _, claim: delivery_renew(database, claim),
    "it sends": lambda database, _, claim: sends(database, claim),
    "it sends a part": lambda database, _, claim: peer_part_sending(database, claim, PART, Peer(), b"older"),
    "a part was acknowledged": lambda _, conn, claim: peer_part_acknowledged(conn, claim, PART, Peer()),
    "it was acknowledged": lambda _, conn, claim: peer_acknowledged(conn, claim, Peer(external_id="older")),
    "it deleted": lambda _, conn, claim: peer_gone(conn, claim),
    "it succeeded": lambda _, conn, claim: succeeds(conn, claim, Peer(external_id="older")),
    "it succeeded in deleting": lambda _, conn, claim: succeeds(conn, claim, None),
    "it failed": lambda _, conn, claim: delivery_failed(conn, claim, FAULT, Verdict(Next.RETRY), Streak(), 1.0),
}


async def sends(database: Database, claim: Claim) -> None:
    await disclosure_sending(database, claim, Peer(), b"older", PartKey(claim.object_kind), None)


async def succeeds(conn: Connection, claim: Claim, peer: Peer | None) -> None:
    await peer_delivered(conn, claim, peer, duration_s=0.1, description="sent")


@pytest.fixture
async def waiting(database: Database, keyring: Keyring) -> Waiting:
    """A tenant with an enabled integration and one company that is due."""
    integration = Integration(
        id="cp", type=INTEGRATION_TYPE_CHARGEPRICE, enabled=True, status=INTEGRATION_STATUS_PENDING
    )
    company = Company(id=COMPANY_ID, version=1, is_cpo=True, is_emp=False)
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "test", 3)
        await integration_insert(conn, "acme", integration, [OBJECT_KIND_COMPANY])
        await company_put(conn, "acme", company, is_new=True)
        await change_record(conn, CALLER, OBJECT_KIND_COMPANY, COMPANY_ID, CREATE, "")
    (found,) = await delivery_waiting(database)
    assert found == Waiting("acme", "cp", INTEGRATION_TYPE_CHARGEPRICE)
    return found


async def change(database: Database) -> None:
    async with database.transaction() as conn:
        await change_record(conn, CALLER, OBJECT_KIND_COMPANY, COMPANY_ID, "update", "")


async def claimed(database: Database, waiting: Waiting, lease_s: float = 60.0) -> Claim:
    claim = await delivery_claim(database, waiting, lease_s)
    assert claim is not None
    return claim


async def test_a_delivery_is_claimed_once_among_many(database: Database, waiting: Waiting) -> None:
    claims = await asyncio.gather(*(delivery_claim(database, waiting, 60.0) for _ in range(20)))
    assert sum(claim is not None for claim in claims) == 1
    assert not await delivery_waiting(database)


async def test_a_claim_takes_one_delivery_whatever_the_plan(database: Database, waiting: Waiting) -> None:
    """The statistics say that a tenant has one delivery; so a plan may look for the next one once for each it has."""
    for text in (
        "INSERT INTO tenant SELECT 't' || n FROM generate_series(1, 100) AS n",
        "INSERT INTO integration SELECT tenant_id, 'cp', 6, true, 1, '', '' FROM tenant WHERE tenant_id <> 'acme'",
        "INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state)"
        " SELECT tenant_id, 'cp', 1, '', 3 FROM tenant",
        "ANALYZE",
        "INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id)"
        " SELECT 'acme', 'cp', 1, n FROM generate_series(1, 9) AS n",
    ):
        await database.run(Statement("many", text))
    for left in range(9, -1, -1):
        assert await delivery_claim(database, waiting, 60.0) is not None
        claimable = "SELECT count(*) FROM delivery WHERE tenant_id = 'acme' AND state = 1"
        assert await database.value(Statement("left", claimable)) == left


async def test_an_expired_lease_is_taken_over_and_the_first_holder_is_fenced_out(
    database: Database, waiting: Waiting
) -> None:
    first = await claimed(database, waiting, lease_s=0.0)
    second = await claimed(database, waiting)
    assert second.lease_token > first.lease_token
    assert second.failed_attempts == 2  # the first was counted before it was made
    held = Peer(PEER_OBJECT_STATE_LINKED, COMPANY_ID, 1, b"hash", b"sent")
    for claim in (first, second):  # the second one once it has ended
        for write in FENCED.values():
            with pytest.raises(LeaseLost):
                async with database.transaction() as conn:
                    await write(database, conn, claim)
        async with database.transaction() as conn:
            assert await peer_get(conn, second.peer_key) == (Peer() if claim is first else held)
            if claim is first:
                await succeeds(conn, second, held)


async def test_parts_are_shared_with_the_previous_version(database: Database, waiting: Waiting) -> None:
    """It keeps them beside the object, under ids joined by tabs."""
    claim = replace(await claimed(database, waiting), object_kind=OBJECT_KIND_LOCATION, object_id="DEABCl1")
    theirs = "INSERT INTO peer_object VALUES ('acme', 'cp', 9, E'DEABCl1\te1\t1', 3, '7', 0, NULL, now(), 'sent')"
    await database.run(Statement("theirs", theirs))
    held = Peer(PEER_OBJECT_STATE_LINKED, "7", sent_document=b"sent")
    async with database.transaction() as conn:
        assert await peer_parts(conn, claim) == {PART: held}
        await peer_part_acknowledged(conn, claim, PART, replace(held, external_id="8"))
    for ids in (("e2",), ("e2", "1")):
        await peer_part_sending(database, claim, PART._replace(ids=ids), Peer(), b"sent")
    rows = await database.rows(Statement("kept", "SELECT object_id, external_id, state FROM peer_object"))
    assert sorted(map(tuple, rows)) == [("DEABCl1\te1\t1", "8", 3), ("DEABCl1\te2", "", 2), ("DEABCl1\te2\t1", "", 2)]


async def test_a_change_during_an_attempt_makes_it_due_again(database: Database, waiting: Waiting) -> None:
    claim = await claimed(database, waiting)
    await change(database)
    assert await delivery_claim(database, waiting, 60.0) is None
    async with database.transaction() as conn:
        await succeeds(conn, claim, None)
    assert (await claimed(database, waiting)).generation == claim.generation + 1


async def test_a_parked_delivery_waits_for_a_change(database: Database, waiting: Waiting) -> None:
    claim = await claimed(database, waiting)
    async with database.transaction() as conn:
        await delivery_failed(conn, claim, FAULT, Verdict(Next.PARK, counts=True), Streak(), 0.0)
    assert not await delivery_waiting(database)
    await change(database)
    assert (await claimed(database, waiting)).failed_attempts == 1


async def test_a_failure_that_does_not_count_is_taken_back(database: Database, waiting: Waiting) -> None:
    for _ in range(3):
        claim = await claimed(database, waiting)
        assert claim.failed_attempts == 1
        async with database.transaction() as conn:
            await delivery_failed(conn, claim, FAULT, Verdict(Next.PAUSE), Streak(), 0.0)


async def test_a_paused_integration_is_left_alone_until_it_may_go_on(database: Database, waiting: Waiting) -> None:
    async with database.transaction() as conn:
        first, began, _ = await gate_failed(conn, "acme", "cp")
    assert await delivery_waiting(database) == [waiting]  # a failure alone holds nothing back
    async with database.transaction() as conn:
        assert (first, (await gate_failed(conn, "acme", "cp"))[:2]) == (1, (2, began))
        await gate_hold(conn, "acme", "cp", 60.0)
    assert not await delivery_waiting(database)
    assert await delivery_claim(database, waiting, 60.0) is None
    async with database.transaction() as conn:
        await gate_resume(conn, "acme", "cp")
    assert await delivery_waiting(database) == [waiting]
    async with database.transaction() as conn:
        assert (await gate_failed(conn, "acme", "cp"))[:2] == (1, began)
        await gate_succeeded(conn, "acme", "cp")
    async with database.transaction() as conn:
        failures, again, _ = await gate_failed(conn, "acme", "cp")
    assert (failures, again > began) == (1, True)


async def test_who_waits_longest_comes_first_and_last_where_something_fails(
    database: Database, waiting: Waiting
) -> None:
    other = Integration(id="ap", type=INTEGRATION_TYPE_CHARGEPRICE, enabled=True, status=INTEGRATION_STATUS_PENDING)
    async with database.transaction() as conn:
        await integration_insert(conn, "acme", other, [OBJECT_KIND_COMPANY])
        await change_record(conn, CALLER, OBJECT_KIND_COMPANY, COMPANY_ID, "update", "")
    assert [each.integration_id for each in await delivery_waiting(database)] == ["cp", "ap"]
    async with database.transaction() as conn:
        await gate_failed(conn, "acme", "cp")
    assert [each.integration_id for each in await delivery_waiting(database)] == ["ap", "cp"]


@pytest.mark.parametrize("scope", Scope)
async def test_nothing_is_delivered_while_anything_is_held_back(
    database: Database, waiting: Waiting, scope: Scope
) -> None:
    pause = "INSERT INTO gate_pause VALUES ('acme', 'cp', 1, now() + make_interval(secs => $1), $2)"
    await database.run(Statement("pause", pause), 60.0, scope)
    assert not await delivery_waiting(database)
    assert await delivery_claim(database, waiting, 60.0) is None
    await database.run(Statement("over", "UPDATE gate_pause SET resume_time = now()"))
    assert await delivery_waiting(database) == [waiting]


async def test_retention_keeps_a_tombstone_while_a_partner_holds_the_company(
    database: Database, waiting: Waiting
) -> None:
    claim = await claimed(database, waiting)
    held = Peer(PEER_OBJECT_STATE_LINKED, COMPANY_ID, 1, b"hash", b"sent")
    async with database.transaction() as conn:
        await succeeds(conn, claim, held)
        await company_tombstone(conn, "acme", COMPANY_ID)
        assert await peer_get(conn, claim.peer_key) == held
    await age(database)
    await retention_sweep(database, days=30)
    assert await counts(database) == {"company": 1, "delivery": 1, "delivery_attempt": 0, "change": 0, "idempotency": 0}
    await database.run(Statement("gone", "DELETE FROM peer_object"))
    await retention_sweep(database, days=30)
    await retention_sweep(database, days=30)
    # The change is that the delivery is gone.
    assert await counts(database) == {"company": 0, "delivery": 0, "delivery_attempt": 0, "change": 1, "idempotency": 0}


async def test_retention_forgets_deleted_tariffs_and_locations(database: Database, keyring: Keyring) -> None:
    tariffs = [a_tariff(id=id) for id in ("live", "young", "old")]
    locations = [a_location(id=id) for id in ("live", "young", "old")]
    for each in (*locations, *(evse for location in locations for evse in location.evses)):
        each.last_updated.GetCurrentTime()
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "test", 3)
        await tariff_put(conn, "acme", tariffs, {})
        await location_put(conn, "acme", locations, {})
        for id in ("young", "old"):
            await tariff_tombstone(conn, "acme", ObjectKey("DE", "ABC", id))
            await location_tombstone(conn, "acme", ObjectKey("DE", "ABC", id))
    for table in ("tariff", "location"):
        age = f"UPDATE {table} SET delete_time = now() - interval '31 days' WHERE key = 'old'"
        await database.run(Statement("age", age))
    for told in (
        "INSERT INTO integration VALUES ('acme', 'am', 4, true, 2, '', '')",
        "INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id, state, update_time)"
        " SELECT 'acme', 'am', kind, 'DEABC' || id, 3, now() - interval '31 days'"
        " FROM unnest(ARRAY[4, 5]) AS kind, unnest(ARRAY['live', 'young', 'old']) AS id",
    ):
        await database.run(Statement("told", told))
    await retention_sweep(database, days=30)
    await retention_sweep(database, days=30)
    for left, expected in [
        ("SELECT object_id FROM delivery WHERE object_kind = 4 ORDER BY object_id", ["DEABClive", "DEABCyoung"]),
        ("SELECT object_id FROM delivery WHERE object_kind = 5 ORDER BY object_id", ["DEABClive", "DEABCyoung"]),
        ("SELECT key FROM tariff ORDER BY key", ["live", "young"]),
        ("SELECT key FROM location ORDER BY key", ["live", "young"]),
        ("SELECT DISTINCT location_key FROM evse ORDER BY location_key", ["live", "young"]),
    ]:
        assert [row[0] for row in await database.rows(Statement("left", left))] == expected


async def test_retention_keeps_what_is_young(database: Database, waiting: Waiting) -> None:
    before = await counts(database)
    await retention_sweep(database, days=30)
    assert await counts(database) == before


AGED = {
    "company": "delete_time",
    "delivery": "update_time",
    "delivery_attempt": "start_time",
    "change": "create_time",
    "idempotency": "create_time",
}


async def age(database: Database) -> None:
    for table, column in AGED.items():
        await database.run(Statement("age", f"UPDATE {table} SET {column} = {column} - interval '31 days'"))


async def counts(database: Database) -> dict[str, int]:
    return {table: await database.value(Statement("count", f"SELECT count(*) FROM {table}")) for table in AGED}


async def test_calls_at_once_with_one_request_id_do_the_work_once(database: Database, waiting: Waiting) -> None:
    request_id, done = str(uuid4()), 0

    async def call() -> bytes:
        nonlocal done
        async with database.transaction() as conn:
            given = await idempotency_claim(conn, "acme", "M", request_id, [b"digest"])
            if given is not None:
                return given
            await asyncio.sleep(0.05)
            done += 1
            await idempotency_keep(conn, "acme", "M", request_id, b"answer")
            return b"answer"

    assert await asyncio.gather(*(call() for _ in range(8))) == [b"answer"] * 8
    assert done == 1
    async with database.transaction() as conn:
        # A rotated key still recognises the request; another request is refused.
        assert await idempotency_claim(conn, "acme", "M", request_id, [b"new key's", b"digest"]) == b"answer"
        with pytest.raises(RequestIdReused):
            await idempotency_claim(conn, "acme", "M", request_id, [b"another"])


async def test_the_first_key_is_made_once_by_processes_that_start_together(
    database: Database, keyring: Keyring
) -> None:
    keys = await asyncio.gather(*(api_key_first(database, keyring, "default", 3) for _ in range(5)))
    assert sum(key is not None for key in keys) == 1


async def test_secrets_move_to_a_new_key_and_still_open(database: Database, waiting: Waiting) -> None:
    old = Keyring.parse(f"old:{base64.b64encode(b'o' * 32).decode()}")
    new = Keyring.parse(f"new:{base64.b64encode(b'n' * 32).decode()},old:{base64.b64encode(b'o' * 32).decode()}")
    only_new = Keyring.parse(f"new:{base64.b64encode(b'n' * 32).decode()}")
    async with database.transaction() as conn:
        await secrets_put(conn, old, "acme", "cp", {"chargeprice.api_key": Secret("hunter2")})
    assert await secrets_rewrap(database, new) == 1
    assert await secrets_rewrap(database, new) == 0
    async with database.connection() as conn:
        secrets = await secrets_get(conn, only_new, "acme", "cp")
        assert secrets["chargeprice.api_key"].reveal() == "hunter2"
        with pytest.raises(SealBroken):
            await secrets_get(conn, old, "acme", "cp")
