"""IntegrationService through the front door."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, ListDeliveriesRequest
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    INTEGRATION_TYPE_CHARGEPRICE,
    ChargepriceConnection,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    ListIntegrationsRequest,
    UpdateIntegrationRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from service.simulator.chargeprice import Simulator
from tests.conftest import Tenant
from tests.front_door import a_company, an_integration, fails, settled

Code = grpc.StatusCode


async def create(tenant: Tenant, **changes: Any) -> Integration:
    request = CreateIntegrationRequest(integration=an_integration(**changes))
    return await tenant.admin.integrations.CreateIntegration(request)


async def get(tenant: Tenant, integration: Integration) -> Integration:
    return await tenant.reader.integrations.GetIntegration(GetIntegrationRequest(id=integration.id))


async def update(tenant: Tenant, integration: Integration, *paths: str, **more: Any) -> Integration:
    request = UpdateIntegrationRequest(integration=integration, update_mask=FieldMask(paths=paths), **more)
    return await tenant.admin.integrations.UpdateIntegration(request)


async def test_an_integration_comes_back_without_its_secret(tenant: Tenant) -> None:
    created = await create(tenant, id="cp-one", display_name="Chargeprice", enabled=False)
    assert created.chargeprice == ChargepriceConnection(base_url="http://127.0.0.1:9", api_key_set=True)
    assert created.status == INTEGRATION_STATUS_SUSPENDED
    assert (created.id, created.display_name, created.enabled) == ("cp-one", "Chargeprice", False)
    assert await get(tenant, created) == created
    listed = await tenant.reader.integrations.ListIntegrations(ListIntegrationsRequest())
    assert [*listed.integrations] == [created]


async def test_an_id_is_made_when_none_is_given_and_an_address_too(tenant: Tenant) -> None:
    created = await create(tenant, base_url="", enabled=False)
    assert created.id.startswith("chargeprice-")
    assert created.chargeprice.base_url == "https://api.chargeprice.app"


async def test_an_id_is_taken_once_per_tenant(tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]) -> None:
    await create(tenant, id="cp")
    failure = await fails(create(tenant, id="cp"))
    assert (failure.code, failure.reason) == (Code.ALREADY_EXISTS, "RESOURCE_EXISTS")
    await create(await new_tenant(), id="cp")


INVALID = [
    ({"id": "CP"}, "integration.id"),
    ({"id": "cp-"}, "integration.id"),
    ({"id": "c" * 64}, "integration.id"),
    ({"type": 0}, "integration.type"),
    ({"type": 99}, "integration.type"),
    ({"chargeprice": None}, "integration.connection"),
    ({"display_name": "n" * 256}, "integration.display_name"),
    ({"api_key": ""}, "integration.chargeprice.api_key"),
    ({"api_key": "with space"}, "integration.chargeprice.api_key"),
    ({"api_key": "line\nbreak"}, "integration.chargeprice.api_key"),
    ({"api_key": "k" * 513}, "integration.chargeprice.api_key"),
    *(
        ({"base_url": url}, "integration.chargeprice.base_url")
        for url in (
            "ftp://api.chargeprice.app",
            "api.chargeprice.app",
            "http://user:secret@127.0.0.1",
            "https://api.chargeprice.app?key=1",
            "https://api.chargeprice.app/#x",
            "http://127.1",
            "http://0x7f000001",
            "http://2130706433",
            "https://169.254.169.254",
            "https://10.0.0.1",
            "https://[::ffff:10.0.0.1]",
            "https://api.chargeprice.app:0",
            "https://api.chargeprice.app\\@evil.example",
            "https://" + "a" * 300,
        )
    ),
]


@pytest.mark.parametrize(("changes", "path"), INVALID)
async def test_a_field_that_breaks_its_rule_is_named_and_nothing_is_stored(
    tenant: Tenant, changes: dict[str, Any], path: str
) -> None:
    failure = await fails(create(tenant, **changes))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert path in failure.violations
    assert "secret" not in repr(failure)
    assert not (await tenant.reader.integrations.ListIntegrations(ListIntegrationsRequest())).integrations


async def test_a_mask_changes_what_it_names_and_nothing_else(tenant: Tenant) -> None:
    created = await create(tenant, display_name="before", enabled=False)
    patch = Integration(id=created.id, display_name="after", enabled=True)
    changed = await update(tenant, patch, "display_name")
    assert (changed.display_name, changed.enabled) == ("after", False)
    assert changed.etag != created.etag
    assert changed.create_time == created.create_time
    cleared = await update(tenant, Integration(id=created.id), "display_name")
    assert cleared.display_name == ""
    assert cleared.chargeprice == created.chargeprice


async def test_without_a_mask_the_populated_fields_change(tenant: Tenant) -> None:
    created = await create(tenant, display_name="before", enabled=True)
    changed = await update(tenant, Integration(id=created.id, display_name="after"))
    assert (changed.display_name, changed.enabled) == ("after", True)


async def test_a_star_replaces_all_but_the_secret(tenant: Tenant) -> None:
    created = await create(tenant, display_name="before", enabled=True)
    wanted = an_integration(id=created.id, api_key="", enabled=False)
    changed = await update(tenant, wanted, "*")
    assert (changed.display_name, changed.enabled, changed.chargeprice.api_key_set) == ("", False, True)


async def test_an_update_that_changes_nothing_keeps_the_etag_and_a_new_secret_does_not(tenant: Tenant) -> None:
    created = await create(tenant, display_name="same")
    same = await update(tenant, Integration(id=created.id, display_name="same"), "display_name")
    assert same.etag == created.etag
    rekeyed = await update(
        tenant,
        Integration(id=created.id, chargeprice=ChargepriceConnection(api_key="another")),
        "chargeprice.api_key",
    )
    assert rekeyed.etag != created.etag
    assert rekeyed.chargeprice.base_url == created.chargeprice.base_url


@pytest.mark.parametrize("path", ["nothing", "chargeprice.nothing", "display_name.more", "id.x", ""])
async def test_an_unknown_path_is_refused(tenant: Tenant, path: str) -> None:
    created = await create(tenant)
    failure = await fails(update(tenant, Integration(id=created.id, display_name="x"), path))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "update_mask" in failure.violations


async def test_the_merged_integration_is_validated(tenant: Tenant) -> None:
    created = await create(tenant)
    failure = await fails(update(tenant, Integration(id=created.id, display_name="n" * 256), "display_name"))
    assert "integration.display_name" in failure.violations
    assert "integration" in (await fails(update(tenant, Integration(display_name="x")))).violations


async def test_the_type_is_fixed(tenant: Tenant) -> None:
    created = await create(tenant)
    failure = await fails(update(tenant, Integration(id=created.id), "type"))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "IMMUTABLE_FIELD")


async def test_a_stale_etag_is_refused(tenant: Tenant) -> None:
    created = await create(tenant)
    await update(tenant, Integration(id=created.id, display_name="first", etag=created.etag))
    failure = await fails(update(tenant, Integration(id=created.id, display_name="second", etag=created.etag)))
    assert (failure.code, failure.reason) == (Code.ABORTED, "ETAG_MISMATCH")


async def test_a_new_address_needs_the_secret_again(tenant: Tenant) -> None:
    created = await create(tenant)
    elsewhere = ChargepriceConnection(base_url="http://127.0.0.1:10")
    failure = await fails(update(tenant, Integration(id=created.id, chargeprice=elsewhere)))
    assert set(failure.violations) == {"integration.chargeprice.api_key"}
    elsewhere.api_key = "for-there"
    changed = await update(tenant, Integration(id=created.id, chargeprice=elsewhere))
    assert changed.chargeprice.base_url == "http://127.0.0.1:10"


async def test_a_rehearsed_update_and_a_repeated_one(tenant: Tenant) -> None:
    created = await create(tenant, display_name="before")
    patch = Integration(id=created.id, display_name="after")
    assert (await update(tenant, patch, validate_only=True)).display_name == "after"
    assert (await get(tenant, created)).display_name == "before"
    request_id = str(uuid4())
    first = await update(tenant, patch, request_id=request_id)
    await update(tenant, Integration(id=created.id, display_name="later"))
    assert await update(tenant, patch, request_id=request_id) == first
    assert (await get(tenant, created)).display_name == "later"


@pytest.mark.parametrize("method", ["GetIntegration", "UpdateIntegration", "DeleteIntegration"])
async def test_a_missing_integration_and_one_of_another_tenant_look_the_same(
    tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]], method: str
) -> None:
    await create(await new_tenant(), id="theirs")
    for id in ("theirs", "nowhere"):
        request = {
            "GetIntegration": GetIntegrationRequest(id=id),
            "UpdateIntegration": UpdateIntegrationRequest(integration=Integration(id=id)),
            "DeleteIntegration": DeleteIntegrationRequest(id=id),
        }[method]
        failure = await fails(getattr(tenant.admin.integrations, method)(request))
        assert (failure.code, failure.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert failure.metadata == {"resource": "integration", "id": id}


async def test_lists_filter_and_page(tenant: Tenant) -> None:
    on = [await create(tenant, id=f"on-{number}") for number in range(3)]
    off = await create(tenant, id="off", enabled=False)
    assert [*(await _list(tenant, enabled=False))] == [off]
    assert [i.id for i in await _list(tenant, enabled=True)] == [i.id for i in on]
    assert len(await _list(tenant, type=INTEGRATION_TYPE_CHARGEPRICE, page_size=2)) == 4


async def _list(tenant: Tenant, **filters: Any) -> list[Integration]:
    request, found = ListIntegrationsRequest(**filters), []
    while True:
        page = await tenant.reader.integrations.ListIntegrations(request)
        found += page.integrations
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


async def test_a_new_integration_is_given_what_is_there_and_tells_how_it_went(
    tenant: Tenant, simulator: Simulator
) -> None:
    company = a_company()
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    created = await create(tenant, base_url=simulator.url)
    assert created.status == INTEGRATION_STATUS_PENDING
    assert (await settled(tenant.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    assert (await get(tenant, created)).status == INTEGRATION_STATUS_ACTIVE
    assert simulator.companies[company.id].attributes.name == company.name


async def test_a_disabled_integration_remembers_and_sends_later(tenant: Tenant, simulator: Simulator) -> None:
    created = await create(tenant, base_url=simulator.url, enabled=False)
    company = a_company()
    for version in range(1, 4):
        company.version, company.name = version, f"Name {version}"
        await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    assert not simulator.requests
    await update(tenant, Integration(id=created.id, enabled=True))
    delivery = await settled(tenant.reader, company.id)
    assert delivery.state == DELIVERY_STATE_DELIVERED
    # Three changes, one request: what is sent is the current state.
    assert simulator.history == [(company.id, 1)]
    assert simulator.companies[company.id].attributes.name == "Name 3"


async def test_a_refused_credential_is_told_and_a_new_one_heals(tenant: Tenant, simulator: Simulator) -> None:
    created = await create(tenant, base_url=simulator.url, api_key="wrong-key")
    company = a_company()
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    while (told := await get(tenant, created)).status != INTEGRATION_STATUS_FAILED:
        assert told.status == INTEGRATION_STATUS_PENDING
    assert told.status_description
    assert told.etag == created.etag
    right = Integration(id=created.id, chargeprice=ChargepriceConnection(api_key="partner-key"))
    await update(tenant, right, "chargeprice.api_key")
    assert (await settled(tenant.reader, company.id)).state == DELIVERY_STATE_DELIVERED
    assert (await get(tenant, created)).status == INTEGRATION_STATUS_ACTIVE


async def test_deleting_what_a_partner_holds_needs_force(tenant: Tenant, simulator: Simulator) -> None:
    created = await create(tenant, base_url=simulator.url)
    company = a_company()
    await tenant.writer.companies.UpsertCompany(UpsertCompanyRequest(company=company))
    await settled(tenant.reader, company.id)
    request = DeleteIntegrationRequest(id=created.id)
    failure = await fails(tenant.admin.integrations.DeleteIntegration(request))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "INTEGRATION_HAS_OBJECTS")
    assert failure.metadata == {"objects": "1"}
    stale = DeleteIntegrationRequest(id=created.id, force=True, etag="other")
    assert (await fails(tenant.admin.integrations.DeleteIntegration(stale))).reason == "ETAG_MISMATCH"
    request.force = True
    await tenant.admin.integrations.DeleteIntegration(request)
    assert (await fails(get(tenant, created))).code is Code.NOT_FOUND
    assert not (await tenant.reader.deliveries.ListDeliveries(ListDeliveriesRequest())).deliveries
    assert company.id in simulator.companies
    assert (await fails(tenant.admin.integrations.DeleteIntegration(request))).code is Code.NOT_FOUND
    request.allow_missing = True
    await tenant.admin.integrations.DeleteIntegration(request)
