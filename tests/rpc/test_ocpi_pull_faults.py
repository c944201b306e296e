"""Whatever an operator's lists hold, a run ends well: each object is stored, repaired or quarantined."""

import json
import random
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.front_door import Client
from tests.ocpi.test_check import broken
from tests.partners import OcpiPartner
from tests.rpc.test_ocpi_pull import client, example, locations, operator, outcome, pulled, tariffs
from tests.rpc.test_quarantine import quarantined

__all__ = ["client", "operator"]


def made(dice: random.Random, name: str) -> list[dict[str, Any]]:
    """Forty objects, of which every other one is broken in some places; some come twice."""
    found = []
    for number in range(40):
        object: Any = example(name, id=f"{name}{number}", last_updated=f"2026-03-01T12:00:{number:02}Z")
        for _ in range(dice.randint(1, 4) if number % 2 else 0):
            object = broken(object, dice)
        found.append(object)
    return found + dice.sample(found, 3)


async def test_what_is_broken_costs_itself_and_the_counts_add_up(
    client: Client, operator: OcpiPartner, soak: Callable[[int], int]
) -> None:
    operator.per_page = 25
    for seed in range(soak(60)):
        dice = random.Random(seed)
        lists = operator.lists = {each: made(dice, each.removesuffix("s")) for each in ("tariffs", "locations")}
        run = await pulled(client, whole=True, allow_mass_removal=True)
        assert outcome(run) == "OK", (seed, run)
        for step in run.steps:
            assert step.read_count == len(lists[step.name]), (seed, step)
            known = step.created_count + step.updated_count + step.unchanged_count
            assert step.read_count == known + step.refused_count, (seed, step)
        refused = sum(step.refused_count for step in run.steps)
        kept = await quarantined(client)
        assert bool(kept) == bool(refused) and len(kept) <= refused, seed
        sound = {f"{name}{number}" for name in ("tariff", "location") for number in range(0, 40, 2)}
        assert sound <= {*await locations(client), *await tariffs(client)}, seed
        again = await pulled(client, quarantined=True)
        assert outcome(again) == "OK", (seed, again)
        assert {*await quarantined(client)} == {*kept}, seed


async def test_bytes_that_are_broken_fail_a_run_as_the_partners_fault_or_not_at_all(
    client: Client, operator: OcpiPartner, soak: Callable[[int], int]
) -> None:
    for seed in range(soak(60)):
        dice = random.Random(seed)
        page = {"data": made(dice, "location")[:3], "status_code": 1000, "timestamp": "2026-01-01T00:00:00Z"}
        body = bytearray(json.dumps(page).encode())
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(body))
            body[at : at + dice.randint(0, 4)] = dice.randbytes(dice.randint(0, 4))

        async def instead(body: bytes = bytes(body)) -> web.Response:
            return web.Response(body=body, content_type="application/json")

        operator.instead["locations", 0] = instead
        assert outcome(await pulled(client, whole=True)) in {"OK", "PARTNER_FAULT", "MASS_REMOVAL"}, seed
