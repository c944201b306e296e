"""The last release and this build serve one database, while it is migrated: nobody who calls them notices."""

import asyncio
import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from sysconfig import get_path

import grpc
import pytest
from evbridge.v1.company_pb2 import ListCompaniesRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_AVAILABLE,
    EVSE_STATUS_CHARGING,
    BatchUpsertLocationsRequest,
    EvseStatusReport,
    ListLocationsRequest,
    LocationKey,
    ReportEvseStatusRequest,
)
from evbridge.v1.party_pb2 import CreatePartyRequest
from evbridge.v1.publication_pb2 import CreatePublicationRuleRequest
from evbridge.v1.watch_pb2 import WatchCompaniesRequest

from service.app import evbridge
from service.partners.ampeco.simulator import Simulator as Ampeco
from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.migrations import FOLDER, LAST_RELEASE, migrate, newest
from tests.ampeco import EVSES, LOCATIONS, the_integration
from tests.conftest import created
from tests.front_door import (
    Client,
    Serving,
    a_location,
    a_party,
    a_rule,
    at_rest,
    environment,
    failure_of,
    free_address,
    serving,
    settings,
)
from tests.writers import PASSING, Writers, all_arrive_once, connect, is_all_there_once
from tools import service_config
from tools.third_party import ROOT

RELEASE = os.environ.get("EVBRIDGE_TEST_RELEASE", "7476053")
"""A commit that stands for the last release, as long as there is none."""
SITES = 4
ROUND_ROBIN = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.service_config", service_config.TARGET.read_text()),
    ("grpc.use_local_subchannel_pool", 1),
]
"""The channel of a client of several servers, which repeats what docs/clients.md says and nothing else."""


@pytest.fixture(scope="module")
def last_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its source."""
    directory = tmp_path_factory.mktemp("release")
    archive = ("git", "-C", str(ROOT), "archive", RELEASE, "service", "gen/python")
    try:
        packed = subprocess.run(archive, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{RELEASE} is not here: this is no clone, or a shallow one")
    subprocess.run(("tar", "-x", "-C", str(directory)), check=True, input=packed)
    assert newest(directory / "service/storage/migrations") == LAST_RELEASE
    return directory


@asynccontextmanager
async def released(directory: Path, database_url: str, address: str) -> AsyncIterator[tuple[Serving, str]]:
    """The last release as a process, and the first key that it made."""
    environ = environment(database_url, LISTEN=address, FIRST_KEY="true")
    environ["PYTHONPATH"] = os.pathsep.join(map(str, (directory, directory / "gen/python", get_path("purelib"))))
    # Without the site module, which would put our own folders beside those of the release.
    async with serving(environ, program=("-S", "-P", "-m", "service")) as server:
        yield server, server.log.partition("Bearer ")[2].partition("'")[0]


class Sites:
    """Locations at an AMPECO that clients rename, report on and read, and who watches companies. They repeat nothing,
    but watch again from where they were."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.locations = [a_location(id=f"site-{number}", name="") for number in range(SITES)]
        self.rounds = 0
        self.companies: set[str] = set()
        self.watches = 0

    @asynccontextmanager
    async def at_work(self, ampeco: Ampeco) -> AsyncIterator[None]:
        client = self._client
        await client.parties.CreateParty(CreatePartyRequest(party=a_party()))
        integration = the_integration(ampeco, parties=[{"country_code": "DE", "party_id": "ABC"}])
        await client.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        rule = CreatePublicationRuleRequest(rule=a_rule(integration_id="am"))
        await client.publication.CreatePublicationRule(rule)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch())
            self._tasks = [group.create_task(self._work(number)) for number in range(SITES)]
            yield
            watching.cancel()

    async def finish(self) -> None:
        """Returns when the last call is answered."""
        self._stopping = True
        await asyncio.wait(self._tasks)

    async def _work(self, number: int) -> None:
        location, client = self.locations[number], self._client.locations
        key = LocationKey(country_code="DE", party_id="ABC", id=location.id)
        for status in itertools.cycle((EVSE_STATUS_CHARGING, EVSE_STATUS_AVAILABLE)):
            if self._stopping:
                return
            location.name = f"{location.id}, {self.rounds}"
            upserted = await client.BatchUpsertLocations(
                BatchUpsertLocationsRequest(locations=[location], allow_missing=True)
            )
            assert upserted.results[0].HasField("location"), upserted
            location.evses[0].status = status
            report = EvseStatusReport(location=key, evse_uid=location.evses[0].uid, status=status)
            reported = await client.ReportEvseStatus(ReportEvseStatusRequest(reports=[report]))
            assert reported.changed_count == 1, reported
            listed = await client.ListLocations(ListLocationsRequest())
            assert location.name in [each.name for each in listed.locations]
            await self._client.companies.ListCompanies(ListCompaniesRequest(page_size=10))
            self.rounds += 1

    async def _watch(self) -> None:
        request = WatchCompaniesRequest()
        while True:
            self.watches += 1
            try:
                async for answer in self._client.watch.WatchCompanies(request, timeout=600):
                    self.companies |= {change.id for change in answer.changes}
                    request.resume_token = answer.resume_token or request.resume_token
            except grpc.aio.AioRpcError as error:
                assert error.code() in PASSING, failure_of(error)


@pytest.mark.timeout(600)
async def test_the_last_release_serves_while_this_build_migrates_and_beside_it_until_it_is_drained(
    postgres: str, last_release: Path, simulator: Simulator, ampeco: Ampeco, soak: Callable[[int], int]
) -> None:
    addresses = free_address(), free_address()
    both = f"ipv4:{','.join(addresses)}"
    async with (
        created(postgres) as url,
        released(last_release, url, addresses[0]) as (old, key),
        grpc.aio.insecure_channel(both, options=ROUND_ROBIN) as channel,
    ):
        await connect(addresses[0], key, simulator)
        client = Client(channel, key)
        sites, writers = Sites(client), Writers(both, key, options=ROUND_ROBIN)
        async with sites.at_work(ampeco), writers.at_work():
            await writers.do(soak(600))
            async with evbridge(settings(url, listen=addresses[1])):
                await writers.do(soak(1200))
                old.process.terminate()
                assert await old.process.wait() == 0
                await writers.do(soak(600))
                await asyncio.gather(writers.finish(), sites.finish())
                await is_all_there_once(writers, addresses[1], key)
                await all_arrive_once(writers, simulator)
                while sites.companies != {company.id for company in writers.companies}:
                    await asyncio.sleep(0.02)
                await at_rest(client, "am")
        assert sites.watches > 1
    held = {each["externalId"]: each["name"][0]["translation"] for each in ampeco.objects.below(LOCATIONS)}
    assert held == {f"DE*ABC*{each.id}": each.name for each in sites.locations}
    assert len([*ampeco.objects.below(LOCATIONS)]) * 2 == len([*ampeco.objects.below(EVSES)]) == SITES * 2


async def test_a_control_that_a_migration_which_is_not_safe_is_noticed(
    postgres: str, ampeco: Ampeco, tmp_path: Path
) -> None:
    """By whoever calls the release before it."""
    for path in FOLDER.glob("*.sql"):
        shutil.copy(path, tmp_path)
    (tmp_path / "9999_renamed.sql").write_text("ALTER TABLE evse RENAME COLUMN status_time TO time_of_status")
    async with created(postgres) as url, evbridge(settings(url)) as old:
        async with old.database.transaction() as conn:
            key = (await api_key_create(conn, old.keyring, "acme", "", 3)).reveal()
        with pytest.raises(ExceptionGroup) as failed:
            async with (
                grpc.aio.insecure_channel(old.address, options=ROUND_ROBIN) as channel,
                Sites(Client(channel, key)).at_work(ampeco),
            ):
                assert await migrate(url, tmp_path) == ["9999_renamed.sql"]
                await asyncio.Event().wait()
    assert failed.group_contains(grpc.aio.AioRpcError, match="INTERNAL")
