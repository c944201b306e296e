"""The change feed: complete, in order, cut at whole transactions, and honest about what it no longer holds."""

from datetime import timedelta

import pytest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_COMPANY, OBJECT_KIND_DELIVERY, OBJECT_KIND_INTEGRATION

from service.domain.caller import Caller
from service.storage import feed
from service.storage.api_key import api_key_create
from service.storage.changes import CREATE, Change, change_record_many
from service.storage.connection import Connection
from service.storage.feed import FeedPage, feed_held_s, feed_read, feed_sweep
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.retention import heartbeat
from service.storage.statements import Statement

CALLER = Caller("acme", "key", 3)
AGE = Statement("age", "UPDATE change SET create_time = now() - interval '40 days' WHERE object_id = ANY($1::text[])")
EXECUTE = {
    "made": """INSERT INTO delivery (tenant_id, integration_id, object_kind, object_id)
        VALUES ('acme', 'cp', 1, 'one')""",
    "claimed": "UPDATE delivery SET state = 2",
    "renewed": "UPDATE delivery SET lease_until = now()",
    "done": "UPDATE delivery SET state = 3",
    "found": "UPDATE integration SET payload = 'found'",
    "changed": "UPDATE integration SET payload = 'changed', etag = 'another'",
    "gone": "DELETE FROM integration",
}
ENDED = Statement("ended", "SELECT pg_snapshot_xmax(pg_current_snapshot())")
INTEGRATION = Statement(
    "integration",
    """INSERT INTO integration (tenant_id, integration_id, type, enabled, status, etag, payload)
    VALUES ('acme', 'cp', 1, true, 1, 'etag', '')""",
)


@pytest.fixture
async def feeding(database: Database, keyring: Keyring) -> Database:
    """The database, with a tenant and a beat."""
    async with database.transaction() as conn:
        await api_key_create(conn, keyring, "acme", "", 3)
    await heartbeat(database)
    return database


async def read(feeding: Database, place: int, *tenant_ids: str) -> FeedPage:
    """What has ended by now, whoever else works on the server: a read may find a stranger's transaction open."""
    async with feeding.connection() as conn:
        ended = await conn.value(ENDED)
    while (page := await feed_read(feeding, tenant_ids or ["acme"], place)).newest < ended:
        pass
    return page


async def write(conn: Connection, *ids: str) -> None:
    await change_record_many(conn, CALLER, OBJECT_KIND_INTEGRATION, [Change(id, CREATE, "") for id in ids])


def ids(page: FeedPage) -> list[str]:
    return [change.object_id for change in page.changes.get("acme", ())]


async def test_a_transaction_that_ends_late_is_not_overtaken(feeding: Database) -> None:
    start = (await read(feeding, 0)).place
    async with feeding.transaction() as early:
        await write(early, "early")
        async with feeding.transaction() as late:
            await write(late, "late")
        before = await feed_read(feeding, ["acme"], start)
        assert ids(before) == []
        assert await feed_held_s(feeding) > 0
    after = await read(feeding, before.place)
    assert ids(after) == ["early", "late"]
    assert ids(await read(feeding, after.place)) == []


async def test_many_changes_are_read_in_parts_of_whole_transactions(
    feeding: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, parts = (await read(feeding, 0)).place, []
    for group in (["a"], ["b", "c", "d", "e"], ["f"], ["g"]):
        async with feeding.transaction() as conn:
            await write(conn, *group)
    monkeypatch.setattr(feed, "_MAX_READ", 2)
    while len(parts) < 3:
        page = await read(feeding, place)
        assert page.place > place
        parts.append(ids(page))
        place = page.place
    assert [part for part in parts if part] == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


async def test_what_is_swept_leaves_a_floor_for_its_tenant_alone(feeding: Database, keyring: Keyring) -> None:
    async with feeding.transaction() as conn:
        await api_key_create(conn, keyring, "other", "", 3)
        await write(conn, "old")
    async with feeding.transaction() as conn:
        await write(conn, "new")
    await feeding.run(AGE, ["old"])
    gone = (await read(feeding, 0)).changes["acme"][0].transaction_id
    await feed_sweep(feeding, timedelta(days=30))
    page = await read(feeding, 0, "acme", "other")
    assert (ids(page), page.floors) == (["new"], {"acme": gone, "other": 0})


async def test_a_place_is_behind_something_that_no_crash_takes_back(feeding: Database) -> None:
    beaten = await read(feeding, 0)
    with pytest.raises(RuntimeError):
        async with feeding.transaction() as conn:
            await write(conn, "lost")
            raise RuntimeError
    idle = await read(feeding, beaten.place)
    assert idle.place == beaten.place <= beaten.complete < idle.complete
    await heartbeat(feeding)
    assert (await read(feeding, idle.place)).place > idle.complete


async def test_deliveries_and_what_is_found_out_about_integrations_are_on_the_feed(feeding: Database) -> None:
    await feeding.run(INTEGRATION)
    seen: dict[str, list[tuple[int, str]]] = {}
    place = (await read(feeding, 0)).place
    for name, text in EXECUTE.items():
        await feeding.run(Statement(name, text))
        page = await read(feeding, place)
        place = page.place
        seen[name] = [(change.object_kind, change.integration_id) for change in page.changes.get("acme", ())]
    delivery, integration = (OBJECT_KIND_DELIVERY, "cp"), (OBJECT_KIND_INTEGRATION, "")
    news = {"made": [delivery], "done": [delivery], "found": [integration], "gone": [delivery]}
    assert seen == {name: news.get(name, []) for name in EXECUTE}
    assert OBJECT_KIND_COMPANY not in {kind for found in seen.values() for kind, _ in found}
