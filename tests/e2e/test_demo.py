"""The demo, and a server that starts filled, run as a person runs them."""

import grpc
from evbridge.options.v1.options_pb2 import ROLE_READER
from evbridge.v1.integration_pb2 import IntegrationType, ListIntegrationsRequest
from evbridge.v1.publication_pb2 import ListPartnerLocationsRequest

from service.app import FIRST_TENANT
from service.storage.api_key import api_key_create, api_key_list
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import Client, command, environment, serving


async def test_the_demo_tells_its_story_to_the_end_and_shows_two_different_views() -> None:
    ended = await command(environment(""), "demo")
    assert (ended.code, ended.err) == (0, "")
    assert "the partner holds 'EnBW Energie', version 5" in ended.out
    assert "charge_point.network.id: The network id has already been taken." in ended.out
    handshake, _, recovery = ended.out[ended.out.index("11. An OCPI party") :].partition("14. A location")
    requests = [line.split()[1:3] for line in handshake.splitlines() if line.startswith("  HTTP ")]
    asked = [(method, url.rpartition("/ocpi/")[2]) for method, url in requests]
    assert asked[:3] == [("GET", "versions"), ("GET", "2.2.1"), ("POST", "2.2.1/credentials")]
    assert asked[-2:] == [("PUT", "2.2.1/locations/BE/BEC/LOC1"), ("PATCH", "2.2.1/locations/BE/BEC/LOC1/3256")]
    assert {("GET", "2.2.1/tariffs?limit=100"), ("GET", "2.2.1/locations?limit=100")} <= {*asked}
    pulled = handshake[handshake.index("12. It operates") :]
    assert '"id": "AC"' in pulled and '"partyId": "SIM"' in pulled
    assert '"token":"***"' in handshake and '"token":"evbo_' not in handshake
    assert "reports in the outage: 200, requests after it: " in recovery
    *_, put, deleted = [line.split()[1:3] for line in recovery.splitlines() if line.startswith("  HTTP ")]
    assert [put[0], deleted[0], deleted[1].rpartition("/")[2]] == ["PUT", "DELETE", "today"]
    assert "they name ['tomorrow'], and the tariff that ended is deleted there" in recovery
    circle = ended.out[ended.out.index("17. One driver's evening") :].partition("\n\n")[0].splitlines()[1:]
    steps = ["register", "token", "authorise", "start", "charge", "stop", "bill", "audit", "reconcile", "reconcile"]
    assert [line.split()[0] for line in circle] == steps
    assert [line.partition(" has ")[2] for line in circle[-2:]] == ["1 session, 1 CDR, 9 EUR, and 0 findings"] * 2
    table = ended.out[ended.out.index("EVSE, connector") :].splitlines()
    assert table[0].split() == ["EVSE,", "connector", "hub", "fleet"]
    assert table[1].split(maxsplit=3)[3].split("  ")[0] == "tariff roaming"
    assert table[1].endswith("tariff fleet-night")
    assert table[3].startswith("  BE*BEC*E041503002, 1 (IEC_62196_T2)")
    assert table[3].endswith("-")
    totals = [line.split() for line in ended.out.splitlines() if line.startswith("  Total ")]
    assert totals == [["Total", "5.80", "EUR", "7.02", "EUR"], ["Total", "4.20", "EUR", "5.08", "EUR"]]


async def test_a_server_that_starts_filled_has_one_of_everything_and_leaves_no_key_behind(
    database_url: str, database: Database, keyring: Keyring
) -> None:
    for _ in range(2):
        async with serving(environment(database_url), "--demo-data") as server:
            async with database.transaction() as conn:
                key = await api_key_create(conn, keyring, FIRST_TENANT, "reader", ROLE_READER)
            async with grpc.aio.insecure_channel(server.address) as channel:
                client = Client(channel, key.reveal())
                page = await client.integrations.ListIntegrations(ListIntegrationsRequest())
                seen = await client.publication.ListPartnerLocations(
                    ListPartnerLocationsRequest(integration_id="fleet")
                )
    assert {integration.type for integration in page.integrations} == {*IntegrationType.values()} - {0}
    assert [location.id for location in seen.locations] == ["DEPOT", "LOC1"]
    in_force = [key.name for _, key in await api_key_list(database) if not key.HasField("revoke_time")]
    assert in_force == ["reader", "reader"]
