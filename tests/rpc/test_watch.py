"""Watches: what they tell, in which order, how they are taken up again, and how they end."""

import asyncio
import base64
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from evbridge.v1.authorization_pb2 import ServeAuthorizationsRequest
from evbridge.v1.command_pb2 import ServeCommandsRequest
from evbridge.v1.company_pb2 import Company, DeleteCompanyRequest, GetCompanyRequest, UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, OBJECT_KIND_COMPANY
from evbridge.v1.integration_pb2 import INTEGRATION_STATUS_ACTIVE, CreateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_CHARGING,
    BatchUpsertLocationsRequest,
    CreateLocationRequest,
    DeleteLocationRequest,
    EvseStatusReport,
    LocationKey,
    ReportEvseStatusRequest,
    UpdateLocationRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.session_pb2 import ServeChargingPreferencesRequest
from evbridge.v1.tariff_pb2 import CreateTariffRequest, DeleteTariffRequest, TariffKey
from evbridge.v1.watch_pb2 import (
    WATCH_SIDE_ALL,
    WATCH_SIDE_RECEIVED,
    WatchCompaniesRequest,
    WatchDeliveriesRequest,
    WatchEvseStatusRequest,
    WatchIntegrationsRequest,
    WatchLocationsRequest,
    WatchTariffsRequest,
)

import service.watch.feed
from service.app import Evbridge, evbridge
from service.domain.caller import Caller
from service.partners.chargeprice.simulator import Simulator
from service.resources.received_location import location_received
from service.storage.api_key import api_key_create, api_key_revoke
from service.storage.changes import CREATE, Change, change_record_many
from service.storage.company import company_put
from service.storage.feed import FeedChange, FeedPage, feed_sweep
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from service.watch.feed import Feed, Loaded
from service.watch.nouns import COMPANIES
from service.watch.token import token_of
from tests.conftest import Tenant
from tests.front_door import (
    Client,
    Failure,
    a_company,
    a_location,
    a_party,
    a_tariff,
    an_evse,
    an_integration,
    an_integration_of,
    failure_of,
    settings,
)
from tests.rpc.test_received import HUB, SENDER, a_document
from tests.rpc.test_received import key as received_key

Code = grpc.StatusCode
WRITERS = 10
HOLD = Statement("hold", "SELECT pg_current_xact_id()")
CUT = Statement(
    "cut",
    """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'evbridge-watch' AND datname = current_database()""",
)
AGE = Statement("age", "UPDATE change SET create_time = now() - interval '40 days' WHERE tenant_id = $1")
VERSION = Statement("version", "SELECT version FROM company WHERE tenant_id = $1 AND company_id = $2 FOR UPDATE")
PLAIN = Statement("plain", "SELECT change_id, object_id FROM change WHERE change_id > $1 ORDER BY change_id")


class Watch:
    """A stream that is read until something was seen."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.token = ""
        self.changes: list[Any] = []

    async def read(self) -> Any:
        """The next message. Raises AssertionError, with how it ended, when there is none."""
        message = await self.call.read()
        assert message is not grpc.aio.EOF, await self.call.code()
        self.changes += message.changes
        self.token = message.resume_token
        return message

    async def until(self, seen: Callable[[Any], bool]) -> Any:
        """The first change like that, now or later."""
        looked = 0
        while True:
            for change in self.changes[looked:]:
                if seen(change):
                    return change
            looked = len(self.changes)
            await self.read()


@asynccontextmanager
async def watching(method: Callable[..., Any], request: Any) -> AsyncIterator[Watch]:
    watch = Watch(method(request, timeout=20.0))
    try:
        await watch.read()
        yield watch
    finally:
        watch.call.cancel()


async def ended(watch: Watch) -> Failure:
    """How a watch ends that must."""
    try:
        while True:
            await watch.read()
    except grpc.aio.AioRpcError as error:
        return failure_of(error)


async def refused(method: Callable[..., Any], request: Any) -> Failure:
    return await ended(Watch(method(request)))


async def upsert(client: Client, **changes: Any) -> Company:
    company: Company = await client.companies.UpsertCompany(UpsertCompanyRequest(company=a_company(**changes)))
    return company


def key_of(location: Any, noun: Any = LocationKey) -> Any:
    return noun(country_code=location.country_code, party_id=location.party_id, id=location.id)


async def test_a_location_is_told_as_it_is_made_changed_and_deleted(tenant: Tenant) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    async with watching(tenant.reader.watch.WatchLocations, WatchLocationsRequest()) as watch:
        assert (watch.changes, bool(watch.token)) == ([], True)
        made = await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L1")))
        change = await watch.until(lambda change: change.HasField("location"))
        assert (change.location, change.key.id, change.change_time) == (made, "l1", made.create_time)
        made.name = "Second"
        renamed = await tenant.writer.locations.UpdateLocation(UpdateLocationRequest(location=made))
        assert (await watch.until(lambda change: change.location.name == "Second")).location == renamed
        await tenant.writer.locations.DeleteLocation(DeleteLocationRequest(key=key_of(made)))
        assert await watch.until(lambda change: not change.HasField("location"))


async def test_the_status_of_an_evse_is_told_and_no_location_with_it(tenant: Tenant) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    made = await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="a/b")))
    report = EvseStatusReport(location=key_of(made), evse_uid="e1", status=EVSE_STATUS_CHARGING)
    async with (
        watching(tenant.reader.watch.WatchEvseStatus, WatchEvseStatusRequest(snapshot=True)) as watch,
        watching(tenant.reader.watch.WatchLocations, WatchLocationsRequest()) as locations,
    ):
        assert [change.evse_uid for change in watch.changes] == ["E1", "E2"]
        await tenant.writer.locations.ReportEvseStatus(ReportEvseStatusRequest(reports=[report]))
        change = await watch.until(lambda change: change.status == EVSE_STATUS_CHARGING)
        assert (change.evse_uid, change.location_key.id) == ("E1", "a/b")
        await tenant.writer.locations.DeleteLocation(DeleteLocationRequest(key=key_of(made)))
        assert await watch.until(lambda change: not change.evse_uid)
        assert await locations.until(lambda change: True) == locations.changes[0]
        assert not locations.changes[0].HasField("location")


async def test_a_delivery_and_its_integration_are_told_on_their_way(tenant: Tenant, simulator: Simulator) -> None:
    created = CreateIntegrationRequest(integration=an_integration(simulator.url, id="cp"))
    async with (
        watching(tenant.reader.watch.WatchDeliveries, WatchDeliveriesRequest(integration_id="cp")) as deliveries,
        watching(tenant.reader.watch.WatchIntegrations, WatchIntegrationsRequest()) as integrations,
        watching(tenant.reader.watch.WatchCompanies, WatchCompaniesRequest()) as companies,
    ):
        await tenant.admin.integrations.CreateIntegration(created)
        company = await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=a_company()))
        assert (await companies.until(lambda change: True)).company == company
        done = await deliveries.until(lambda change: change.delivery.state == DELIVERY_STATE_DELIVERED)
        assert done.delivery.object_id == company.id
        assert {change.delivery.integration_id for change in deliveries.changes} == {"cp"}
        active = await integrations.until(lambda change: change.integration.status == INTEGRATION_STATUS_ACTIVE)
        assert active.id == "cp"


async def test_a_tariff_is_told_and_what_is_received_is_another_side(tenant: Tenant) -> None:
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    method = tenant.reader.watch.WatchTariffs
    async with (
        watching(method, WatchTariffsRequest(side=WATCH_SIDE_ALL)) as every,
        watching(method, WatchTariffsRequest(side=WATCH_SIDE_RECEIVED)) as received,
    ):
        made = await tenant.writer.tariffs.CreateTariff(CreateTariffRequest(tariff=a_tariff(id="T1")))
        assert (await every.until(lambda change: True)).tariff == made
        await tenant.writer.tariffs.DeleteTariff(DeleteTariffRequest(key=key_of(made, TariffKey)))
        assert await every.until(lambda change: not change.HasField("tariff"))
        assert received.changes == []
    wrong = await refused(method, WatchTariffsRequest(side=WATCH_SIDE_ALL, integration_id="cp"))
    assert (wrong.code, wrong.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_what_was_received_is_told_on_its_side(running: Evbridge, tenant: Tenant) -> None:
    hub = an_integration_of("ocpi", id=HUB, enabled=False)
    await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=hub))
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L1")))
    caller = Caller(tenant.name, "", 2)
    await location_received(running.database, caller, SENDER, received_key("R1"), a_document("R1"))
    wanted = {
        (): {""},
        (("side", WATCH_SIDE_ALL),): {"", HUB},
        (("side", WATCH_SIDE_RECEIVED),): {HUB},
        (("integration_id", HUB),): {HUB},
        (("integration_id", "other"),): set(),
    }
    async with AsyncExitStack() as stack:
        watches = []
        for chosen, sides in wanted.items():
            for method, request in (
                (tenant.reader.watch.WatchLocations, WatchLocationsRequest),
                (tenant.reader.watch.WatchEvseStatus, WatchEvseStatusRequest),
            ):
                watch = await stack.enter_async_context(watching(method, request(snapshot=True, **dict(chosen))))
                while not watch.token:
                    await watch.read()
                assert sides_of(watch) == sides
                watch.changes.clear()
                watches.append((watch, sides))
        await tenant.writer.locations.CreateLocation(CreateLocationRequest(location=a_location(id="L2")))
        await location_received(running.database, caller, SENDER, received_key("R2"), a_document("R2"))
        for watch, sides in watches:
            while sides_of(watch) < sides:
                await watch.read()
            assert sides_of(watch) == sides


def sides_of(watch: Watch) -> set[str]:
    keys = [change.key if hasattr(change, "key") else change.location_key for change in watch.changes]
    return {key.integration_id for key in keys}


async def test_a_snapshot_comes_before_the_first_token_and_changes_after_it(tenant: Tenant) -> None:
    before = [await upsert(tenant.writer) for _ in range(3)]
    await tenant.writer.companies.DeleteCompany(DeleteCompanyRequest(id=before.pop().id))
    async with watching(tenant.reader.watch.WatchCompanies, WatchCompaniesRequest(snapshot=True)) as watch:
        assert not watch.token
        assert not any(change.HasField("change_time") for change in watch.changes)
        assert sorted(change.id for change in watch.changes) == sorted(company.id for company in before)
        assert list((await watch.read()).changes) == []
        assert watch.token
        after = await upsert(tenant.writer)
        assert (await watch.until(lambda change: change.HasField("change_time"))).company == after


async def test_two_tenants_do_not_see_each_other(new_tenant: Callable[[], Awaitable[Tenant]]) -> None:
    tenants = [await new_tenant() for _ in range(2)]
    request = WatchCompaniesRequest(snapshot=True)
    async with (
        watching(tenants[0].reader.watch.WatchCompanies, request) as first,
        watching(tenants[1].reader.watch.WatchCompanies, request) as second,
    ):
        for watch, tenant in ((first, tenants[0]), (second, tenants[1])):
            made = await upsert(tenant.writer)
            assert (await watch.until(lambda change: True)).company == made
        # The other tenant's token is a place in the same feed, and shows it nothing.
        request = WatchCompaniesRequest(resume_token=first.token)
        assert [len(watch.changes) for watch in (first, second)] == [1, 1]
        async with watching(tenants[1].reader.watch.WatchCompanies, request) as third:
            made = await upsert(tenants[1].writer)
            await third.until(lambda change: change.id == made.id)
            assert {change.id for change in third.changes} <= {made.id, second.changes[0].id}


async def test_what_changes_again_before_it_is_sent_is_sent_once(running: Evbridge, tenant: Tenant) -> None:
    company = await upsert(tenant.writer)
    async with watching(tenant.reader.watch.WatchCompanies, WatchCompaniesRequest()) as watch:
        async with running.database.transaction() as conn:
            await conn.value(HOLD)  # what is committed meanwhile waits
            for version in range(2, 12):
                await upsert(tenant.writer, id=company.id, version=version)
        change = await watch.until(lambda change: True)
        assert (change.company.version, len(watch.changes)) == (11, 1)


async def test_many_commits_reach_a_watcher_that_comes_and_goes(
    running: Evbridge, tenant: Tenant, database_url: str, soak: Callable[[int], int]
) -> None:
    """Also what a plain cursor makes of them, which is the control."""
    caller, commits, visits = Caller(tenant.name, "key", 3), soak(5000) // WRITERS, soak(100)
    shared = [(await upsert(tenant.writer)).id for _ in range(7)]
    versions = dict.fromkeys(shared, 0)
    last = str(uuid4())
    made = {last}
    seen: list[str] = []
    plain: set[str] = set()
    visited = 0
    written = asyncio.Event()

    async def write(writer: int) -> None:
        for number in itertools.count():
            if number >= commits and visited >= visits:
                return
            is_new = number % 2 == 0
            id = str(uuid4()) if is_new else shared[(writer + number) % len(shared)]
            async with running.database.transaction() as conn:
                await change_record_many(conn, caller, OBJECT_KIND_COMPANY, [Change(id, CREATE, "")])
                stored = await conn.value(VERSION, tenant.name, UUID(id)) or 0
                await company_put(conn, tenant.name, a_company(id=id, version=stored + 1), is_new=is_new)
                await asyncio.sleep(0.002 * ((writer * 7 + number * 3) % 5))
            if is_new:
                made.add(id)

    async def poll() -> None:
        cursor = 0
        while not written.is_set():
            if rows := await running.database.rows(PLAIN, cursor):
                cursor = rows[-1]["change_id"]
                plain.update(row["object_id"] for row in rows)
            await asyncio.sleep(0)

    async def follow(token: str) -> None:
        nonlocal visited
        while last not in seen:
            async with watching(tenant.reader.watch.WatchCompanies, WatchCompaniesRequest(resume_token=token)) as watch:
                await watch.until(lambda change: True)
            visited, token = visited + 1, watch.token
            for change in watch.changes:
                if change.id in versions:
                    assert change.company.version >= versions[change.id]
                    versions[change.id] = change.company.version
                else:
                    seen.append(change.id)

    async with watching(tenant.reader.watch.WatchCompanies, WatchCompaniesRequest()) as start:
        others = [asyncio.create_task(work) for work in (poll(), follow(start.token))]
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
        await upsert(tenant.writer, id=last)
        written.set()
        await asyncio.gather(*others)
    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    for id in shared:
        stored = await tenant.reader.companies.GetCompany(GetCompanyRequest(id=id))
        assert versions[id] == stored.version
    assert made - plain - {last}, "the control loses nothing"


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        ("damaged", Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        (token_of(b"another!", 1000), Code.OUT_OF_RANGE, "RESUME_TOKEN_FOREIGN"),
    ],
)
async def test_a_token_that_cannot_be_used_is_refused(tenant: Tenant, token: str, code: Code, reason: str) -> None:
    failure = await refused(tenant.reader.watch.WatchTariffs, WatchTariffsRequest(resume_token=token))
    assert (failure.code, failure.reason) == (code, reason)


async def test_a_token_from_the_future_is_refused(running: Evbridge, tenant: Tenant) -> None:
    async with watching(tenant.reader.watch.WatchTariffs, WatchTariffsRequest()) as watch:
        raw = base64.urlsafe_b64decode(watch.token + "==")
        later = token_of(raw[:8], 1 << 40)
    failure = await refused(tenant.reader.watch.WatchTariffs, WatchTariffsRequest(resume_token=later))
    assert (failure.code, failure.reason) == (Code.OUT_OF_RANGE, "RESUME_TOKEN_FOREIGN")


async def test_a_token_goes_with_no_snapshot(tenant: Tenant) -> None:
    request = WatchTariffsRequest(resume_token="token", snapshot=True)
    failure = await refused(tenant.reader.watch.WatchTariffs, request)
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_a_token_older_than_the_kept_history_is_refused(running: Evbridge, tenant: Tenant) -> None:
    method = tenant.reader.watch.WatchCompanies
    async with watching(method, WatchCompaniesRequest()) as watch:
        old = watch.token
        await upsert(tenant.writer)
        await watch.until(lambda change: True)
    await running.database.run(AGE, tenant.name)
    await feed_sweep(running.database, timedelta(days=30))
    failure = await refused(method, WatchCompaniesRequest(resume_token=old))
    assert (failure.code, failure.reason) == (Code.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")
    async with watching(method, WatchCompaniesRequest(resume_token=watch.token)) as again:
        made = await upsert(tenant.writer)
        assert (await again.until(lambda change: True)).id == made.id


async def test_what_many_watch_is_loaded_once(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, find = [], COMPANIES.find

    async def counted(database: Database, tenant_id: str, changes: Sequence[Any]) -> list[bytes]:
        loaded.append(changes)
        return await find(database, tenant_id, changes)

    monkeypatch.setattr(COMPANIES, "find", counted)
    watches = [Watch(tenant.reader.watch.WatchCompanies(WatchCompaniesRequest())) for _ in range(30)]
    for watch in watches:
        await watch.read()
    made = await upsert(tenant.writer)
    for watch in watches:
        assert (await watch.until(lambda change: True)).company == made
        watch.call.cancel()
    assert len(loaded) == 1


async def test_nobody_is_given_what_is_older_than_what_they_were_given(database: Database) -> None:
    states = iter("abc")
    feed = Feed(database, 1.0, 1.0)
    change = FeedChange(1, OBJECT_KIND_COMPANY, "id", "", datetime.now(UTC))

    async def find(changes: Sequence[FeedChange]) -> list[bytes]:
        return [next(states).encode()]

    async def load(after: int) -> Loaded:
        return await feed.load("acme", "CompanyChange", [change], find, after)

    assert await load(0) == await load(1) == (1, [b"a"])
    assert await load(2) == await load(0) == (2, [b"b"])


Served = Callable[..., Any]


@pytest.fixture
def served(database_url: str, keyring: Keyring, database: Database) -> Served:
    """A server of the test's own, and a client with an admin key, over a channel that takes little in advance."""

    @asynccontextmanager
    async def serve(**changes: Any) -> AsyncIterator[tuple[Client, str]]:
        async with database.transaction() as conn:
            key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
        options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
        async with evbridge(settings(database_url, delivery=False, **changes)) as running:
            channel = grpc.aio.insecure_channel(running.address, options=options)
            yield Client(channel, key), key
        await channel.close()  # not before the server, so that the client learns how its calls end

    return serve


async def test_a_database_that_was_replaced_ends_each_watch(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    read = service.watch.feed.feed_read

    async def replaced(database: Database, tenant_ids: Sequence[str], place: int | None) -> FeedPage:
        return dataclasses.replace(await read(database, tenant_ids, place), database=b"another!")

    async with (
        served() as (client, _),
        watching(client.watch.WatchCompanies, WatchCompaniesRequest()) as watch,
    ):
        made = await upsert(client)
        await watch.until(lambda change: change.id == made.id)
        monkeypatch.setattr(service.watch.feed, "feed_read", replaced)
        failure = await ended(watch)
        assert (failure.code, failure.reason) == (Code.OUT_OF_RANGE, "RESUME_TOKEN_FOREIGN")
        async with watching(client.watch.WatchCompanies, WatchCompaniesRequest(snapshot=True)) as anew:
            assert [change.id for change in anew.changes] == [made.id]


async def test_a_reader_that_takes_nothing_is_cut_and_can_go_on(served: Served) -> None:
    async with served(send_s=0.3, max_watches_per_key=2) as (client, _):
        await client.parties.CreateParty(CreatePartyRequest(party=a_party()))
        sites = [a_location(id=f"L{n}", evses=[an_evse(f"E{m}") for m in range(300)]) for n in range(60)]
        for site in sites:
            request = BatchUpsertLocationsRequest(locations=[site], allow_missing=True)
            await client.locations.BatchUpsertLocations(request)
        slow = Watch(client.watch.WatchLocations(WatchLocationsRequest(snapshot=True)))
        await slow.read()
        async with watching(client.watch.WatchLocations, WatchLocationsRequest()) as healthy:
            # Two are all that the key may have: a third is let in once the slow one was cut.
            while (await refused_or_none(client)) is not None:
                await asyncio.sleep(0.05)
            assert healthy.token
        failure = await ended(slow)
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "READER_TOO_SLOW")
        assert len(slow.changes) < len(sites)
        async with watching(client.watch.WatchLocations, WatchLocationsRequest(snapshot=True)) as steady:
            await steady.until(lambda change: change.key.id == "l9")
            assert len(steady.changes) == len(sites)


async def refused_or_none(client: Client) -> Failure | None:
    watch = Watch(client.watch.WatchLocations(WatchLocationsRequest()))
    try:
        await watch.read()
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    watch.call.cancel()
    return None


async def test_watches_have_shares_of_their_own(served: Served) -> None:
    async with served(max_watches_per_key=2, max_concurrent_rpcs=2, max_concurrent_rpcs_per_key=1) as (client, _):
        watches = [Watch(client.watch.WatchTariffs(WatchTariffsRequest())) for _ in range(2)]
        for watch in watches:
            await watch.read()
        failure = await refused(client.watch.WatchTariffs, WatchTariffsRequest())
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
        assert await upsert(client)
        for watch in watches:
            watch.call.cancel()


@pytest.mark.parametrize(
    ("service", "method", "request_type"),
    [
        ("authorizations", "ServeAuthorizations", ServeAuthorizationsRequest),
        ("commands", "ServeCommands", ServeCommandsRequest),
        ("sessions", "ServeChargingPreferences", ServeChargingPreferencesRequest),
    ],
)
async def test_who_listens_to_questions_has_the_share_of_a_watch(
    served: Served, service: str, method: str, request_type: Any
) -> None:
    async with served(max_concurrent_rpcs=2, max_concurrent_rpcs_per_key=1) as (client, _):
        stream = getattr(getattr(client, service), method)(request_type())
        await stream.read()
        assert await upsert(client)
        stream.cancel()


async def test_a_server_that_stops_ends_its_watches_and_another_goes_on(served: Served) -> None:
    async with served(drain_s=20.0) as (client, _):
        watch = Watch(client.watch.WatchCompanies(WatchCompaniesRequest()))
        await watch.read()
        await upsert(client)
        await watch.until(lambda change: True)
        missed = await upsert(client)
        last = asyncio.create_task(ended(watch))
    failure = await last
    assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "SERVER_STOPPING")
    async with (
        served() as (client, _),
        watching(client.watch.WatchCompanies, WatchCompaniesRequest(resume_token=watch.token)) as again,
    ):
        made = await upsert(client)
        await again.until(lambda change: change.id == made.id)
        known = {change.id for change in watch.changes}
        assert [change.id for change in again.changes if change.id not in known][-1] == made.id
        assert missed.id in known | {change.id for change in again.changes}


def is_of(company: Company, change: Any) -> bool:
    return bool(change.id == company.id)


async def test_a_watch_outlives_the_feeds_connections(served: Served, database: Database) -> None:
    async with served() as (client, _), watching(client.watch.WatchCompanies, WatchCompaniesRequest()) as watch:
        for _ in range(3):
            made = await upsert(client)
            assert await watch.until(partial(is_of, made))
            assert await database.value(CUT) > 0


async def test_a_revoked_key_watches_no_more(served: Served, database: Database) -> None:
    async with served(max_deadline_s=1.5) as (client, key):
        watch = Watch(client.watch.WatchCompanies(WatchCompaniesRequest()))
        await watch.read()
        await api_key_revoke(database, "acme", key.split("_", 2)[1])
        failure = await ended(watch)
        assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED")
