"""Through PgBouncer in transaction mode: calls, deliveries and watches work; one that loses statements is refused."""

import re
from collections.abc import Callable

import grpc
import pytest
from evbridge.v1.watch_pb2 import WatchCompaniesRequest

from service.app import evbridge
from service.partners.chargeprice.simulator import Simulator
from service.settings import SettingError
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.front_door import Client, command, environment, settings
from tests.pgbouncer import bouncing, programs
from tests.writers import CLIENTS, LEASES_END, Writers, all_arrive_once, connect, is_all_there_once

FIRST = (1, 21)
"""The first that keeps prepared statements."""


def program(*, new: bool) -> str:
    for version, found in programs().items():
        if (version >= FIRST) == new:
            return found
    pytest.skip(f"no PgBouncer {'since' if new else 'before'} 1.21 here: EVBRIDGE_TEST_PGBOUNCER names one")


async def test_all_works_through_it_also_after_it_was_killed(
    database: Database, database_url: str, keyring: Keyring, simulator: Simulator, soak: Callable[[int], int]
) -> None:
    async with bouncing(program(new=True), database_url) as bouncer:
        through = settings(bouncer.url, pgbouncer=True, database_direct_url=database_url)
        async with database.transaction() as conn:
            key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
        async with evbridge(through) as running, grpc.aio.insecure_channel(running.address) as channel:
            await connect(running.address, key, simulator)
            writers = Writers(running.address, key)
            async with writers.at_work():
                await writers.do(soak(400))
                await bouncer.kill()
                await bouncer.start()
                await writers.do(CLIENTS)
                watch = Client(channel, key).watch.WatchCompanies(WatchCompaniesRequest(), timeout=120)
                await watch.read()
                before = len(writers.companies) + CLIENTS  # under way when the watch began
                await writers.do(soak(400) + 2 * CLIENTS)
                await writers.finish()
            await is_all_there_once(writers, running.address, key)
            for statement in LEASES_END:
                await database.run(Statement("end", statement))
            await all_arrive_once(writers, simulator)
            watched, seen = {company.id for company in writers.companies[before:]}, set[str]()
            while not seen >= watched:
                seen |= {change.company.id for change in (await watch.read()).changes}
            watch.cancel()
    assert watched
    assert writers.repetitions


@pytest.mark.parametrize("new", [True, False], ids=["without max_prepared_statements", "before 1.21"])
async def test_one_that_loses_statements_is_refused(database_url: str, new: bool) -> None:
    async with bouncing(program(new=new), database_url, "max_prepared_statements = 0" if new else "") as bouncer:
        with pytest.raises(SettingError, match=r"version 1\.21 or later, with max_prepared_statements above 0"):
            async with evbridge(settings(bouncer.url, pgbouncer=True, database_direct_url=database_url)):
                pass
        environ = environment(bouncer.url, PGBOUNCER="true", DATABASE_DIRECT_URL=database_url)
        examined = await command(environ, "doctor")
    assert examined.code == 1
    assert re.search(r"FAIL +database.server +PgBouncer loses prepared statements", examined.out)
    assert re.search(rf"{'PASS' if new else 'FAIL'} +database.pgbouncer +PgBouncer 1\.", examined.out)


@pytest.mark.parametrize("new", [True, False], ids=["since 1.21", "before 1.21"])
async def test_one_that_was_not_announced_is_recognised(database_url: str, new: bool) -> None:
    async with bouncing(program(new=new), database_url) as bouncer:
        with pytest.raises(SettingError, match=r"set EVBRIDGE_PGBOUNCER=true, and EVBRIDGE_DATABASE_DIRECT_URL"):
            async with evbridge(settings(bouncer.url)):
                pass
