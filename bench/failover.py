"""`python -m bench.failover`: for how long nothing can be written when the primary is lost, and which writes are lost.

Clients write through one process of evbridge, on a primary and a standby on this machine. The standby is promoted at
once, so what is measured is evbridge; add the time that it takes you to notice. `first` is the first acknowledgement
after the fault, `all` is when the last of the clients has one again.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple

from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.front_door import KEYS, environment, serving
from tests.postgres import Pair, a_pair
from tests.writers import CLIENTS, Writers, lost

ROUNDS = 3
WRITE_S = 1.0


class Scene(NamedTuple):
    name: str
    lose: Callable[[Pair], Awaitable[None]]
    synchronous: bool = True
    aim_s: float = 5.0


SCENES = [
    Scene("killed, synchronous", Pair.kill_primary),
    Scene("demoted, synchronous", Pair.demote_primary, aim_s=10.0),
    Scene("never answers, synchronous", Pair.freeze_primary, aim_s=10.0),
    Scene("killed, asynchronous", Pair.kill_primary, synchronous=False),
]


class Outcome(NamedTuple):
    first_s: float
    all_s: float
    acknowledged: int
    lost: int


async def _play(scene: Scene) -> Outcome:
    async with a_pair(synchronous=scene.synchronous) as pair, serving(environment(pair.url)) as server:
        key = await _key(pair.url)
        writers = Writers(server.address, key)
        async with writers.at_work():
            await asyncio.sleep(WRITE_S)
            fault = time.monotonic()
            await scene.lose(pair)
            await pair.promote_standby()
            promoted = time.monotonic()
            while not all(answered[-1] > promoted for answered in writers.answered.values()):
                await asyncio.sleep(0.01)
            await asyncio.sleep(WRITE_S)
            await writers.finish()
        # An acknowledgement may have been on its way while the primary was lost.
        back = [next(each for each in answered if each > promoted) for answered in writers.answered.values()]
        acknowledged = sum(map(len, writers.answered.values()))
        return Outcome(
            min(back) - fault, max(back) - fault, acknowledged, len(await lost(writers, server.address, key))
        )


async def _key(url: str) -> str:
    database = Database(url)
    await database.open()
    try:
        async with database.transaction() as conn:
            return (await api_key_create(conn, Keyring.parse(KEYS), "bench", "", 3)).reveal()
    finally:
        await database.close()


async def main() -> None:
    print(f"the primary is lost while {CLIENTS} clients write: median and worst of {ROUNDS} rounds, seconds\n")
    print(f"{'':28}{'first':>13}{'all':>13}{'aim':>6}{'acknowledged':>14}{'lost':>6}")
    for scene in SCENES:
        outcomes = [await _play(scene) for _ in range(ROUNDS)]
        times = "".join(
            f"{median(column):7.1f} {max(column):5.1f}"
            for column in ([each.first_s for each in outcomes], [each.all_s for each in outcomes])
        )
        sums = sum(each.acknowledged for each in outcomes), sum(each.lost for each in outcomes)
        short = "" if max(each.all_s for each in outcomes) <= scene.aim_s else "  FALLS SHORT"
        print(f"{scene.name:28}{times}{scene.aim_s:6.0f}{sums[0]:14,}{sums[1]:6}{short}", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
