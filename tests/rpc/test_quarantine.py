"""QuarantineService: what a pull could not take is kept as it was sent, and taken once it can be."""

import json
from typing import Any

import grpc
import pytest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF
from evbridge.v1.quarantine_pb2 import (
    DeleteQuarantinedObjectRequest,
    GetQuarantinedObjectRequest,
    ListQuarantinedObjectsRequest,
    QuarantinedObject,
)

from service.app import Evbridge
from service.storage.retention import retention_sweep
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import Client, fails
from tests.partners import OcpiPartner
from tests.rpc.test_ocpi_pull import ID, client, counts, locations, operator, outcome, pulled, the_location

__all__ = ["client", "operator"]

AGE = Statement("age", "UPDATE quarantine SET latest_time = now() - interval '31 days' WHERE tenant_id = $1")


async def quarantined(client: Client, **filters: Any) -> dict[str, QuarantinedObject]:
    """Those there are by their ids at the partner, page by page."""
    request, found = ListQuarantinedObjectsRequest(integration_id=ID, page_size=1, **filters), {}
    while True:
        page = await client.quarantine.ListQuarantinedObjects(request)
        found |= {each.object_id: each for each in page.quarantined_objects}
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_what_cannot_be_taken_is_kept_as_it_was_sent_until_it_can_be(
    client: Client, operator: OcpiPartner
) -> None:
    listed = operator.lists["locations"]
    listed[0] |= {"coordinates": None, "own": [1.50, "é"]}
    listed[1] |= {"last_updated": "soon", "own": float("nan")}
    listed[2] = nameless = {"name": "nobody", "id": ".."}
    run = await pulled(client, whole=True)
    assert (outcome(run), run.steps[1].refused_count) == ("OK", 3)
    found = await quarantined(client, object_kind=OBJECT_KIND_LOCATION)
    assert sorted(found) == ["", "NL*TNM*L1", "NL*TNM*L2"]
    assert await quarantined(client, object_kind=OBJECT_KIND_TARIFF) == {}
    kept = {
        id: await client.quarantine.GetQuarantinedObject(GetQuarantinedObjectRequest(id=each.id))
        for id, each in found.items()
    }
    assert {id: [v.path for v in each.violations] for id, each in kept.items()} == {
        "NL*TNM*L1": ["/coordinates"],
        "NL*TNM*L2": ["/own"],
        "": ["/id"],
    }
    assert json.loads(kept["NL*TNM*L1"].document) == listed[0]
    assert json.loads(kept[""].document) == nameless
    assert '"own":NaN' in kept["NL*TNM*L2"].document
    assert all(each.document == "" and each.size == len(kept[id].document) for id, each in found.items())
    assert {(each.run_id, each.count, each.integration_id) for each in found.values()} == {(run.id, 1, ID)}

    listed[0] = the_location(1)
    del listed[2]
    run = await pulled(client, whole=True)
    assert counts(run.steps[1])["created_count"] == 1
    found = await quarantined(client)
    assert [(id, each.count, each.run_id) for id, each in found.items()] == [("NL*TNM*L2", 2, run.id)]
    del listed[1]
    await pulled(client, whole=True)
    assert await quarantined(client) == {}


async def test_what_is_quarantined_is_tried_again_after_a_fix_without_the_partner(
    client: Client, operator: OcpiPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.lists["locations"][2] |= {"coordinates": None}
    with monkeypatch.context() as broken:
        broken.setattr("service.resources.received_location.MAX_LOCATION", 10)
        await pulled(client)
    assert (await locations(client), len(await quarantined(client))) == ({}, 5)
    operator.asked.clear()
    run = await pulled(client, quarantined=True)
    assert {step.name: counts(step) for step in run.steps} == {
        "tariffs": {},
        "locations": {"read_count": 5, "created_count": 4, "refused_count": 1},
    }
    assert operator.asked == {}
    assert sorted(await locations(client)) == ["L1", "L2", "L4", "L5"]
    assert [*await quarantined(client)] == ["NL*TNM*L3"]


async def test_what_is_kept_is_bounded(
    client: Client, operator: OcpiPartner, running: Evbridge, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in operator.lists["locations"]:
        each["coordinates"] = None
    monkeypatch.setattr("service.storage.quarantine.MAX_OBJECTS", 3)
    monkeypatch.setattr("service.storage.quarantine.MAX_DOCUMENT", 100)
    run = await pulled(client)
    assert run.steps[1].refused_count == 5
    found = await quarantined(client)
    assert sorted(found) == ["NL*TNM*L1", "NL*TNM*L2", "NL*TNM*L3"]
    first = await client.quarantine.GetQuarantinedObject(GetQuarantinedObjectRequest(id=found["NL*TNM*L1"].id))
    assert (len(first.document), first.size > 100) == (100, True)
    assert counts((await pulled(client, quarantined=True)).steps[1]) == {}
    await client.quarantine.DeleteQuarantinedObject(DeleteQuarantinedObjectRequest(id=first.id))
    failure = await fails(client.quarantine.GetQuarantinedObject(GetQuarantinedObjectRequest(id=first.id)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
    assert len(await quarantined(client)) == 2
    await running.database.run(AGE, tenant.name)
    await retention_sweep(running.database, 30)
    assert await quarantined(client) == {}
