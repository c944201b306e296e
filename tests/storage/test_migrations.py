"""A database reaches the schema of this build once, in order, and never silently another."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, IntegrationModels
from evbridge.v1.location_pb2 import (
    CreateLocationRequest,
    Evse,
    ExceptionalPeriod,
    Hours,
    ListLocationsRequest,
    Location,
    StatusSchedule,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest, ListTariffsRequest, Tariff
from google.protobuf.json_format import Error, MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Evbridge
from service.storage.migrations import FOLDER, LAST_RELEASE, MigrationError, migrate, pending
from service.storage.statements import Statement
from service.storage.steps import STEPS, printable_times, pull_schedules
from tests.conftest import Tenant
from tests.front_door import a_location, a_party, a_tariff, an_integration_of

NO_TIME = Timestamp(seconds=-(1 << 40))

FILES = {
    "0001_first.sql": "CREATE TABLE first (id int); CREATE TABLE second (id int);",
    "0002_index.notx.sql": "-- Beside its readers.\nCREATE INDEX CONCURRENTLY IF NOT EXISTS first_id ON first (id)",
    "0003_third.sql": "ALTER TABLE second ADD COLUMN third int",
}
BOOKS = {"schema_migration", "schema_floor"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, sql in FILES.items():
        (tmp_path / name).write_text(sql)
    return tmp_path


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(empty_database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def empty_database_url(database_url: str) -> str:
    """The migrated database of the test, with everything in it taken away."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return database_url


async def tables(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows}


async def test_pending_files_are_applied_in_order_and_once(
    empty_database_url: str, connection: asyncpg.Connection, folder: Path
) -> None:
    assert await pending(empty_database_url, folder) == list(FILES)
    assert await tables(connection) == set()
    assert await migrate(empty_database_url, folder) == list(FILES)
    assert await tables(connection) == {"first", "second", *BOOKS}
    assert await migrate(empty_database_url, folder) == []
    assert await pending(empty_database_url, folder) == []


async def test_four_that_start_at_once_apply_each_file_once(empty_database_url: str, folder: Path) -> None:
    applied = await asyncio.gather(*(migrate(empty_database_url, folder) for _ in range(4)))
    assert sorted(name for names in applied for name in names) == list(FILES)


async def test_the_migrations_of_this_build_fit_an_empty_database(empty_database_url: str) -> None:
    names = await pending(empty_database_url)
    assert await migrate(empty_database_url) == names == sorted(path.name for path in FOLDER.glob("*.sql"))


def test_an_index_of_a_table_that_is_there_is_built_beside_its_writers() -> None:
    """Since the last release, whose tables have rows."""
    for path in FOLDER.glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        new = re.findall(r"CREATE TABLE (\w+)", text)
        for table in re.findall(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)\w+ ON (\w+)", text):
            assert path.name <= LAST_RELEASE or table in new, f"{path.name}: make it in a .notx.sql, CONCURRENTLY"


async def test_parts_that_a_partner_holds_move_to_a_table_of_their_own(
    empty_database_url: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    for path in FOLDER.glob("*.sql"):
        if path.name < "0021":
            (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    await migrate(empty_database_url, tmp_path)
    await connection.execute(
        r"""
        INSERT INTO tenant VALUES ('acme');
        INSERT INTO integration VALUES ('acme', 'am', 4, true, 2, '', '');
        INSERT INTO peer_object VALUES
            ('acme', 'am', 4, 'DEABCt1', 3, '1'), ('acme', 'am', 4, E'DEABCt1\tgroup', 3, '2'),
            ('acme', 'am', 5, 'DEABCl1', 3, '3'), ('acme', 'am', 9, E'DEABCl1\te1\t1', 2, '');
        """
    )
    await migrate(empty_database_url)
    rows = await connection.fetch(
        "SELECT object_kind, object_id, part_kind, part_id, state, external_id FROM peer_part"
    )
    assert sorted(map(tuple, rows)) == [
        (4, "DEABCt1", 4, ["group"], 3, "2"),
        (5, "DEABCl1", 9, ["e1", "1"], 2, ""),
    ]


async def test_an_edited_file_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrate(empty_database_url, folder)
    (folder / "0003_third.sql").write_text("ALTER TABLE second ADD COLUMN third bigint")
    for refuse in (migrate, pending):
        with pytest.raises(MigrationError, match=r"0003_third\.sql was edited"):
            await refuse(empty_database_url, folder)


async def test_a_database_of_a_newer_build_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrate(empty_database_url, folder)
    (folder / "0003_third.sql").unlink()
    (folder / "0002_index.notx.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer build.* 0002_index\.notx\.sql, 0003_third\.sql"):
        await migrate(empty_database_url, folder)


async def test_the_release_before_may_start_on_the_database_and_the_one_before_that_may_not(
    empty_database_url: str, folder: Path
) -> None:
    await migrate(empty_database_url, folder, "0002_index.notx.sql")
    (folder / "0003_third.sql").unlink()
    assert await migrate(empty_database_url, folder) == []
    (folder / "0002_index.notx.sql").unlink()
    with pytest.raises(MigrationError, match=r"newer build.* 0002_index\.notx\.sql, 0003_third\.sql"):
        await migrate(empty_database_url, folder)


async def test_a_database_that_was_upgraded_twice_is_not_for_the_first_of_three_releases(
    empty_database_url: str, folder: Path
) -> None:
    await migrate(empty_database_url, folder, "0002_index.notx.sql")
    (folder / "0004_fourth.sql").write_text("CREATE TABLE fourth (id int)")
    await migrate(empty_database_url, folder, "0003_third.sql")
    await migrate(empty_database_url, folder, "0002_index.notx.sql")  # a build that does not know better
    for name in ("0004_fourth.sql", "0003_third.sql"):
        (folder / name).unlink()
    with pytest.raises(MigrationError, match="newer build"):
        await migrate(empty_database_url, folder)


async def test_a_file_that_slipped_in_before_an_applied_one_is_refused(empty_database_url: str, folder: Path) -> None:
    (folder / "0002_index.notx.sql").unlink()
    await migrate(empty_database_url, folder)
    (folder / "0002_late.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match=r"0002_late\.sql comes before 0003_third\.sql"):
        await migrate(empty_database_url, folder)


@pytest.mark.parametrize("name", ["4_short.sql", "0004-dash.sql", "0004_Upper.sql", "0003_again.sql"])
async def test_a_file_without_a_place_in_the_order_is_refused(empty_database_url: str, folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=name):
        await migrate(empty_database_url, folder)


async def test_a_file_outside_a_transaction_that_cannot_be_repeated_is_refused(
    empty_database_url: str, folder: Path
) -> None:
    """It would fail once the process had died between its statement and the note that it is done."""
    (folder / "0004_again.notx.sql").write_text("CREATE INDEX CONCURRENTLY second_id ON second (id)")
    with pytest.raises(MigrationError, match=r"0004_again\.notx\.sql cannot be repeated: write IF NOT EXISTS"):
        await migrate(empty_database_url, folder)


async def test_a_failing_file_leaves_nothing_of_itself_and_keeps_those_before_it(
    empty_database_url: str, connection: asyncpg.Connection, folder: Path
) -> None:
    (folder / "0004_fourth.sql").write_text("CREATE TABLE fourth (id int); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(MigrationError, match=r"0004_fourth\.sql failed: UndefinedTableError sqlstate=42P01"):
        await migrate(empty_database_url, folder)
    assert await tables(connection) == {"first", "second", *BOOKS}
    assert await pending(empty_database_url, folder) == ["0004_fourth.sql"]


async def test_a_table_in_use_is_waited_for_without_blocking_its_readers(
    empty_database_url: str, connection: asyncpg.Connection, folder: Path
) -> None:
    await connection.execute("CREATE TABLE second (id int)")
    (folder / "0001_first.sql").write_text("CREATE TABLE first (id int)")
    reader = await asyncpg.connect(empty_database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("SELECT FROM second")
    # The index waits for every open snapshot, so only the first and the third file are at stake here.
    (folder / "0002_index.notx.sql").unlink()
    migrating = asyncio.create_task(migrate(empty_database_url, folder))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'second'::regclass"
    while not await connection.fetchval(waiting):
        await asyncio.sleep(0.01)
    # Queued behind the migration, which gives up after 200 ms; otherwise this would wait for the reader.
    assert await connection.fetchval("SELECT count(*) FROM second", timeout=10) == 0
    await transaction.commit()
    await reader.close()
    assert await migrating == ["0001_first.sql", "0003_third.sql"]


async def test_an_index_whose_build_was_interrupted_is_built_again(
    empty_database_url: str, connection: asyncpg.Connection, folder: Path
) -> None:
    (folder / "0002_index.notx.sql").write_text("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS first_id ON first (id)")
    (folder / "0001_first.sql").write_text(FILES["0001_first.sql"] + "INSERT INTO first VALUES (1), (1)")
    with pytest.raises(MigrationError, match=r"0002_index\.notx\.sql failed: UniqueViolationError"):
        await migrate(empty_database_url, folder)
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'first_id'::regclass") is False
    await connection.execute("DELETE FROM first")
    assert await migrate(empty_database_url, folder) == ["0002_index.notx.sql", "0003_third.sql"]
    assert await connection.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'first_id'::regclass") is True


async def test_stored_times_that_are_none_become_printable(
    tenant: Tenant, running: Evbridge, shared_database_url: str
) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    good = a_tariff(id="good", start_date_time=Timestamp(seconds=1_900_000_000))
    for tariff in (good, a_tariff(id="bad")):
        await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=tariff))
    await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="bad")))
    opening = Hours(twentyfourseven=True, exceptional_openings=[ExceptionalPeriod(period_begin=NO_TIME)])
    evse = Location(evses=[Evse(status_schedule=[StatusSchedule(period_begin=NO_TIME)])])
    # Merged into what is stored, as an older build stored it.
    for table, more in (
        ("tariff", Tariff(end_date_time=Timestamp(seconds=5, nanos=-1))),
        ("location", Location(opening_times=opening)),
        ("evse", evse),
    ):
        spoil = f"UPDATE {table} SET payload = payload || $2 WHERE tenant_id = $1"
        spoil += "" if table == "evse" else " AND key = 'bad'"
        await running.database.run(Statement("spoil", spoil), tenant.name, more.SerializeToString())
    lists = tenant.reader.tariffs.ListTariffs, tenant.reader.locations.ListLocations
    for call, request in zip(lists, (ListTariffsRequest(), ListLocationsRequest()), strict=True):
        with pytest.raises(Error):
            MessageToJson(await call(request))
    before = (await lists[0](ListTariffsRequest())).tariffs[1]
    connection = await asyncpg.connect(shared_database_url)
    async with connection.transaction():
        await printable_times(connection)
    await connection.close()
    for call, request in zip(lists, (ListTariffsRequest(), ListLocationsRequest()), strict=True):
        MessageToJson(await call(request))
    bad, same = (await lists[0](ListTariffsRequest())).tariffs
    assert same == before
    assert bad.end_date_time == Timestamp(seconds=5)
    (location,) = (await lists[1](ListLocationsRequest())).locations
    assert location.opening_times.exceptional_openings[0].period_begin.ToJsonString() == "0001-01-01T00:00:00Z"


async def test_an_integration_from_before_schedules_is_pulled(
    tenant: Tenant, running: Evbridge, shared_database_url: str
) -> None:
    for id, models in {"pulls": IntegrationModels(pull_location=True), "none": IntegrationModels()}.items():
        integration = an_integration_of("ocpi", "", id=id, enabled=False, models=models)
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    before = Statement("before", "UPDATE integration SET pull_minutes = 0 WHERE tenant_id = $1")
    await running.database.run(before, tenant.name)
    connection = await asyncpg.connect(shared_database_url)
    async with connection.transaction():
        await pull_schedules(connection)
    await connection.close()
    minutes = "SELECT integration_id, pull_minutes, pull_time < now() + interval '4 hours' AS soon "
    minutes += "FROM integration WHERE tenant_id = $1 ORDER BY 1 DESC"
    rows = await running.database.rows(Statement("scheduled", minutes), tenant.name)
    assert [tuple(row) for row in rows] == [("pulls", 240, True), ("none", 0, True)]


async def test_a_step_runs_with_its_file(
    empty_database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    async def step(connection: asyncpg.Connection) -> None:
        seen.append(await tables(connection))

    monkeypatch.setitem(STEPS, "look", step)
    (folder / "0004_look.sql").write_text("CREATE TABLE fourth (id int);\n-- step: look\n")
    await migrate(empty_database_url, folder)
    assert seen == [{"first", "second", "fourth", *BOOKS}]
