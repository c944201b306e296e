"""IntegrationService through the front door."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.ampeco_connection_pb2 import AmpecoConnection, AmpecoTax
from evbridge.v1.chargeprice_connection_pb2 import ChargepriceConnection
from evbridge.v1.company_pb2 import UpsertCompanyRequest
from evbridge.v1.delivery_pb2 import DELIVERY_STATE_DELIVERED, ListDeliveriesRequest
from evbridge.v1.emabler_connection_pb2 import EmablerConnection
from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    INTEGRATION_STATUS_PENDING,
    INTEGRATION_STATUS_SUSPENDED,
    INTEGRATION_TYPE_CHARGEPRICE,
    CreateIntegrationRequest,
    DeleteIntegrationRequest,
    GetIntegrationRequest,
    Integration,
    IntegrationModels,
    IntegrationType,
    ListIntegrationsRequest,
    RequestLimits,
    UpdateIntegrationRequest,
)
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_RECEIVER, OcpiConnection, PlannedParty, VersionDetails
from evbridge.v1.partner_pb2 import SetExchangeRecordingRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_EMSP, CreatePartyRequest, DeletePartyRequest, PartyKey
from evbridge.v1.run_pb2 import RUN_KIND_CREDENTIALS, RUN_KIND_TOKEN_EXCHANGE, GetRunRequest
from evbridge.v1.utility_cloud_connection_pb2 import UtilityCloudConnection
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

from service.app import Evbridge
from service.bridge.egress import EgressPolicy
from service.domain.caller import Caller
from service.domain.fields import clear_output_only, take_secrets
from service.domain.integration import secret_paths
from service.domain.secret import Secret
from service.errors import InvalidArgument
from service.partners.chargeprice.simulator import Simulator
from service.rpc.integration import IntegrationService
from service.storage.integration import integration_replace, secrets_get, secrets_put
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import CONNECTIONS, a_company, a_party, an_integration, an_integration_of, beside, fails, settled

Code = grpc.StatusCode


async def create(tenant: Tenant, **changes: Any) -> Integration:
    return await created_as(tenant, an_integration(**changes))


async def created_as(tenant: Tenant, integration: Integration, **flags: bool) -> Integration:
    request = CreateIntegrationRequest(integration=integration, **flags)
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


GOING = Statement("going", "DELETE FROM integration WHERE tenant_id = $1")
SENDING = Statement(
    "sending",
    "INSERT INTO peer_object (tenant_id, integration_id, object_kind, object_id, state) VALUES ($1, 'cp', 1, 'x', 2)",
)


async def test_what_refers_to_an_integration_as_it_goes_waits_and_goes_without_it(
    tenant: Tenant, running: Evbridge
) -> None:
    await create(tenant, id="cp")
    company = UpsertCompanyRequest(company=a_company())
    upsert = partial(tenant.writer.companies.UpsertCompany, company)
    assert (await (await beside(running.database, GOING, tenant.name, call=upsert))).version == 1
    due = Statement("due", "SELECT count(*) FROM delivery WHERE tenant_id = $1")
    assert await running.database.value(due, tenant.name) == 0


async def test_a_recording_of_an_integration_that_goes_is_to_be_tried_again(tenant: Tenant, running: Evbridge) -> None:
    await create(tenant, id="cp")
    until = Timestamp()
    until.FromDatetime(datetime.now(UTC) + timedelta(minutes=1))
    record = partial(
        tenant.admin.partners.SetExchangeRecording, SetExchangeRecordingRequest(integration_id="cp", until=until)
    )
    failure = await fails(await beside(running.database, GOING, tenant.name, call=record))
    assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")


async def test_what_a_partner_is_sent_as_its_integration_is_deleted_counts(tenant: Tenant, running: Evbridge) -> None:
    await create(tenant, id="cp")
    request = DeleteIntegrationRequest(id="cp")
    delete = partial(tenant.admin.integrations.DeleteIntegration, request)
    failure = await fails(await beside(running.database, SENDING, tenant.name, call=delete))
    assert failure.reason == "INTEGRATION_HAS_OBJECTS"


BY_TYPE = pytest.mark.parametrize("type", CONNECTIONS)
DE_ABC, NL_XYZ = PartyKey(country_code="DE", party_id="ABC"), PartyKey(country_code="NL", party_id="XYZ")
PLANNED = PlannedParty(country_code="NL", party_id="TNM", role=PARTY_ROLE_EMSP)
URL = "http://127.0.0.1:9/api"
VALUES: dict[str, Any] = {
    **{
        field.full_name: URL
        for connection in CONNECTIONS.values()
        for field in connection.DESCRIPTOR.fields
        if field.GetOptions().Extensions[options.url]
    },
    "evbridge.v1.Integration.parties": [DE_ABC, NL_XYZ],
    "evbridge.v1.OcpiConnection.platform_integration_id": "hub",
    "evbridge.v1.OcpiConnection.platform_party_id": "abc",
    "evbridge.v1.OcpiConnection.platform_party_country_code": "de",
    "evbridge.v1.OcpiConnection.planned_parties": [PLANNED],
    "evbridge.v1.SalesforceConnection.allowed_hosts": "other.example:8443",
    "evbridge.v1.AmpecoConnection.currency": "EUR",
    "evbridge.v1.AmpecoConnection.time_zone": "Europe/Berlin",
    "evbridge.v1.AmpecoConnection.taxes": [AmpecoTax(vat={"value": vat}, tax_id=1) for vat in ("7", "19")],
    "evbridge.v1.EmablerConnection.api_version": 2,
    "evbridge.v1.EmablerConnection.add_location_path": "/add/{emabler_integration_id}",
    "evbridge.v1.EmablerConnection.update_integration_path": "/{emabler_integration_id}/v1.0/change",
    "evbridge.v1.EmablerConnection.get_integration_path": "/{emabler_integration_id}",
}
NOT_BY_CREATE = {"status_description", "version_details", "partner_company_details", "latest_run_id", "pause_time"}
NOT_BY_CREATE |= {
    "pause_reason",
    "ocpi.our_token_set",
    "ocpi.their_token_set",
    "ocpi.plain_authorization",
    "ocpi.partner_versions_url",
    "ocpi.hub_party_id",
}


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the parties DE*ABC and NL*XYZ."""
    for key in (DE_ABC, NL_XYZ):
        party = a_party(country_code=key.country_code, party_id=key.party_id)
        await tenant.admin.parties.CreateParty(CreatePartyRequest(party=party))
    return tenant


@BY_TYPE
async def test_every_field_of_every_type_is_stored_and_comes_back_but_the_secrets(party: Tenant, type: str) -> None:
    others = {f"evbridge.v1.Integration.{name}": None for name in CONNECTIONS if name != type}
    of_type = {"evbridge.v1.Integration.type": IntegrationType.Value(f"INTEGRATION_TYPE_{type.upper()}")}
    sent = filled(Integration.DESCRIPTOR, VALUES | others | of_type)
    assert isinstance(sent, Integration)
    await created_as(party, an_integration_of("ocpi", id="hub"))
    stored = await created_as(party, sent)
    secrets = take_secrets(sent)
    assert secrets
    assert set(unset(stored)) - NOT_BY_CREATE == {*secrets} | {name for name in CONNECTIONS if name != type}
    got = await get(party, stored)
    assert got == stored
    clear_output_only(got)
    got.etag = ""
    assert got == sent


@BY_TYPE
async def test_an_integration_of_every_type_is_named_after_it_and_needs_its_secrets(tenant: Tenant, type: str) -> None:
    created = await created_as(tenant, an_integration_of(type))
    assert created.id.startswith(type.replace("_", "-") + "-")
    assert created.status == INTEGRATION_STATUS_PENDING
    without = an_integration_of(type, secret="")
    if type == "ocpi":  # where the partner may begin, and has no token of ours yet
        assert not (await created_as(tenant, without)).ocpi.initial_token_set
    else:
        failure = await fails(created_as(tenant, without))
        assert (failure.reason, set(failure.violations)) == (
            "INVALID_FIELD",
            {f"integration.{path}" for path in secret_paths(without, required=True)},
        )
        assert failure.violations


@BY_TYPE
async def test_a_connection_of_another_type_is_refused(tenant: Tenant, type: str) -> None:
    (other, *_) = (name for name in CONNECTIONS if name != type)
    wrong = an_integration_of(other, type=f"INTEGRATION_TYPE_{type.upper()}")
    assert set((await fails(created_as(tenant, wrong))).violations) == {"integration"}
    created = await created_as(tenant, an_integration_of(type))
    patch = Integration(id=created.id, **{other: CONNECTIONS[other]})
    assert set((await fails(update(tenant, patch))).violations) == {"integration"}


def _urls() -> Iterator[tuple[str, str]]:
    for type, connection in CONNECTIONS.items():
        for field in connection.DESCRIPTOR.fields:
            if field.GetOptions().Extensions[options.url]:
                yield type, field.name


@pytest.mark.parametrize(("type", "field"), [*_urls()])
async def test_every_address_is_checked_and_a_new_origin_needs_the_secrets_again(
    tenant: Tenant, type: str, field: str
) -> None:
    created = await created_as(tenant, an_integration_of(type))
    path = f"integration.{type}.{field}"
    for wrong in ("https://10.0.0.1", "ftp://partner.example"):
        patch = Integration(id=created.id, **{type: {field: wrong}})
        assert set((await fails(update(tenant, patch))).violations) == {path}
    moved = an_integration_of(type, id=created.id)
    setattr(getattr(moved, type), field, "HTTP://127.0.0.1:10/there/")
    secrets = take_secrets(moved)
    failure = await fails(update(tenant, moved, f"{type}.{field}"))
    assert set(failure.violations) == {f"integration.{secret}" for secret in secrets}
    for secret in secrets:
        setattr(getattr(moved, type), secret.rpartition(".")[2], "for-there")
    changed = await update(tenant, moved, f"{type}.{field}", *secrets)
    assert getattr(getattr(changed, type), field) == "http://127.0.0.1:10/there"
    # On the same host another path is the same partner.
    setattr(getattr(moved, type), field, "http://127.0.0.1:10/elsewhere")
    await update(tenant, moved, f"{type}.{field}")


NOBODY = {"country_code": "NL", "party_id": "TNM"}
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("ocpi", "ocpi", {"ocpi": {"initial_role": 1}}),
    ("ocpi", "ocpi.initial_role", {"ocpi": {"endpoint_url": URL}}),
    ("ocpi", "ocpi.initial_role", {"ocpi": {"endpoint_url": URL, "initial_role": 4}}),
    ("ocpi", "ocpi.initial_token", {"ocpi": {"endpoint_url": URL, "initial_role": 1, "initial_token": "t" * 65}}),
    ("ocpi", "ocpi.platform_party_id", {"ocpi": {"initial_role": 2, "platform_party_id": "AB"}}),
    ("ocpi", "ocpi.platform_party_country_code", {"ocpi": {"initial_role": 2, "platform_party_country_code": "DEU"}}),
    ("ocpi", "ocpi.planned_parties", {"ocpi": {"initial_role": 2, "planned_parties": [PLANNED, PLANNED]}}),
    ("ocpi", "ocpi.planned_parties[0].role", {"ocpi": {"initial_role": 2, "planned_parties": [NOBODY]}}),
    ("utility_cloud", "utility_cloud.token_url", {"utility_cloud": {"base_url": URL, "tenant": "t", "client_id": "c"}}),
    ("salesforce", "salesforce.endpoint_url", {"salesforce": {"client_id": "c", "client_secret": "s"}}),
    ("ampeco", "ampeco.base_url", {"ampeco": {"api_token": "t"}}),
    ("emabler", "emabler", {"emabler": {"api_key": "k", "api_version": 2}}),
    ("emabler", "emabler", {"emabler": {"api_key": "k", "client_id": "c"}}),
    *(
        ("emabler", f"emabler.{field}", {"emabler": {"api_key": "k", field: path}})
        for field in ("add_location_path", "update_integration_path", "get_integration_path")
        for path in (
            "/integrations",
            "integrations/{emabler_integration_id}",
            "//evil.example/{emabler_integration_id}",
            "/../{emabler_integration_id}",
            "/{emabler_integration_id}/{emabler_integration_id}",
            "/{emabler_integration_id}?key=1",
            "/{emabler_integration_id}/",
            "https://evil.example/{emabler_integration_id}",
            "/{tenant}/{emabler_integration_id}",
            "/" + "a" * 255 + "/{emabler_integration_id}",
        )
    ),
    ("chargeprice", "customer_roles", {"customer_roles": [1, 1]}),
    ("chargeprice", "customer_roles[0]", {"customer_roles": [0]}),
    ("chargeprice", "charging_period_interval_minutes", {"charging_period_interval_minutes": -1}),
    ("chargeprice", "charging_period_interval_minutes", {"charging_period_interval_minutes": 1441}),
    ("chargeprice", "approved_party_id", {"approved_party_id": -1}),
    ("chargeprice", "limits.requests_per_minute", {"limits": {"requests_per_minute": -1}}),
    ("chargeprice", "limits.max_concurrent_requests", {"limits": {"max_concurrent_requests": 65}}),
    ("chargeprice", "parties", {"parties": [DE_ABC, PartyKey(country_code="de", party_id="abc")]}),
    ("chargeprice", "parties[0].party_id", {"parties": [PartyKey(country_code="DE")]}),
]


@pytest.mark.parametrize(("type", "path", "changes"), REFUSED)
async def test_what_a_type_does_not_allow_is_named(
    tenant: Tenant, type: str, path: str, changes: dict[str, Any]
) -> None:
    failure = await fails(created_as(tenant, an_integration_of(type, **changes)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert f"integration.{path}" in failure.violations


async def test_emabler_has_an_address_and_paths_of_its_own(tenant: Tenant) -> None:
    created = await created_as(tenant, an_integration_of("emabler", emabler={"api_key": "k"}))
    assert created.emabler == EmablerConnection(
        base_url="https://api.emabler.io/api/v2/cpo",
        api_key_set=True,
        add_location_path="/integrations/{emabler_integration_id}/locations",
        update_integration_path="/integrations/{emabler_integration_id}",
        get_integration_path="/integrations/{emabler_integration_id}",
    )


async def test_a_partner_that_begins_needs_no_address_yet(tenant: Tenant) -> None:
    waiting = OcpiConnection(initial_role=INTERFACE_ROLE_RECEIVER, initial_token="token-a")
    created = await created_as(tenant, an_integration_of("ocpi", ocpi=waiting))
    assert created.ocpi == OcpiConnection(initial_role=INTERFACE_ROLE_RECEIVER, initial_token_set=True)


async def test_a_mask_reaches_into_a_connection_and_into_models(tenant: Tenant) -> None:
    models = IntegrationModels(push_cdr=True, pull_tariff=True)
    created = await created_as(tenant, an_integration_of("utility_cloud", models=models))
    patch = Integration(id=created.id, utility_cloud=UtilityCloudConnection(scope="meters", tenant="unnamed"))
    changed = await update(tenant, patch, "utility_cloud.scope", "models.push_cdr", "limits.requests_per_day")
    assert (changed.utility_cloud.scope, changed.utility_cloud.tenant) == ("meters", "acme")
    assert changed.utility_cloud.client_secret_set
    assert changed.models == IntegrationModels(pull_tariff=True)


async def test_a_model_that_is_false_is_a_change_without_a_mask_too(tenant: Tenant) -> None:
    models = IntegrationModels(push_location=True, push_tariff=True)
    created = await created_as(tenant, an_integration_of("ocpi", models=models))
    patch = Integration(id=created.id, models=IntegrationModels(push_location=False))
    changed = await update(tenant, patch)
    assert changed.models == IntegrationModels(push_location=False, push_tariff=True)
    assert changed.models.HasField("push_location")
    assert not changed.models.HasField("push_cdr")


async def test_what_was_found_out_outlasts_an_update_but_not_a_new_address(party: Tenant, running: Evbridge) -> None:
    tenant = party
    await created_as(tenant, an_integration_of("ocpi", id="hub"))
    behind = {**_ocpi(), "platform_integration_id": "hub"}
    created = await created_as(tenant, an_integration_of("ocpi", parties=[DE_ABC], ocpi=behind))
    created.version_details.CopyFrom(VersionDetails(version="2.2.1"))
    created.ocpi.our_token_set = created.ocpi.their_token_set = True
    tokens = {"ocpi.their_token": Secret("their-token")}
    async with running.database.transaction() as conn:
        await integration_replace(conn, tenant.name, created)
        await secrets_put(conn, running.keyring, tenant.name, created.id, tokens)
    changed = await update(tenant, Integration(id=created.id, display_name="new"), "display_name")
    assert changed.version_details.version == "2.2.1"
    assert (changed.ocpi.our_token_set, changed.ocpi.their_token_set) == (True, True)
    assert (changed.ocpi.initial_token_set, changed.ocpi.platform_integration) == (True, True)
    moved = Integration(id=created.id, ocpi={"endpoint_url": "http://127.0.0.1:10", "initial_token": "token-b"})
    changed = await update(tenant, moved)
    assert (changed.ocpi.our_token_set, changed.ocpi.their_token_set) == (False, False)
    assert (changed.HasField("version_details"), changed.create_time) == (False, created.create_time)
    async with running.database.connection() as conn:
        kept = await secrets_get(conn, running.keyring, tenant.name, created.id)
    assert {path: secret.reveal() for path, secret in kept.items()} == {"ocpi.initial_token": "token-b"}


def _ocpi() -> dict[str, Any]:
    return {"endpoint_url": URL, "initial_role": 1, "initial_token": "token-a"}


async def test_parties_must_exist_and_are_not_deleted_while_an_integration_speaks_for_them(party: Tenant) -> None:
    stranger = PartyKey(country_code="FR", party_id="ABC")
    failure = await fails(create(party, parties=[DE_ABC, stranger]))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "REFERENCE_NOT_FOUND")
    assert set(failure.violations) == {"integration.parties[1]"}
    assert failure.metadata == {"resource": "party", "id": "FR*ABC"}
    created = await create(party, parties=[PartyKey(country_code="de", party_id="abc")])
    assert [*created.parties] == [DE_ABC]
    patch = Integration(id=created.id, parties=[stranger])
    assert (await fails(update(party, patch))).reason == "REFERENCE_NOT_FOUND"
    request = DeletePartyRequest(country_code="DE", party_id="ABC")
    failure = await fails(party.admin.parties.DeleteParty(request))
    assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "PARTY_IN_USE")
    assert failure.metadata == {"tariffs": "0", "locations": "0", "tokens": "0", "integrations": "1"}
    await update(party, Integration(id=created.id, parties=[NL_XYZ]))
    await party.admin.parties.DeleteParty(request)


async def test_a_platform_is_an_ocpi_integration_that_is_behind_none(tenant: Tenant) -> None:
    def behind(platform: str, id: str = "") -> Integration:
        changes = {"id": id} if id else {}
        return an_integration_of("ocpi", ocpi={**_ocpi(), "platform_integration_id": platform}, **changes)

    await created_as(tenant, an_integration_of("ocpi", id="hub"))
    await created_as(tenant, an_integration_of("chargeprice", id="cp"))
    failure = await fails(created_as(tenant, behind("none")))
    assert (failure.reason, failure.metadata) == ("REFERENCE_NOT_FOUND", {"resource": "integration", "id": "none"})
    first = await created_as(tenant, behind("hub", "first"))
    place = "integration.ocpi.platform_integration_id"
    for platform, id, problem in (
        ("cp", "", "is not of INTEGRATION_TYPE_OCPI"),
        ("first", "", "is itself behind a platform, hub"),
    ):
        failure = await fails(created_as(tenant, behind(platform, id)))
        assert (failure.code, failure.reason) == (Code.FAILED_PRECONDITION, "PLATFORM_UNSUITABLE")
        assert failure.violations == {place: problem}
    await created_as(tenant, an_integration_of("ocpi", id="other"))
    for platform, problem in (
        ("hub", "is the integration itself"),
        ("other", "cannot be one: this integration is itself a platform, that of first"),
    ):
        failure = await fails(update(tenant, Integration(id="hub", ocpi={"platform_integration_id": platform})))
        assert (failure.reason, failure.violations) == ("PLATFORM_UNSUITABLE", {place: problem})
    request = DeleteIntegrationRequest(id="hub", force=True)
    failure = await fails(tenant.admin.integrations.DeleteIntegration(request))
    assert (failure.reason, failure.metadata) == ("INTEGRATION_IN_USE", {"integrations": "1"})
    await update(tenant, Integration(id=first.id), "ocpi.platform_integration_id")
    await tenant.admin.integrations.DeleteIntegration(request)


ACTIVATED, RETRIED = {"utility_cloud", "salesforce"}, {"ocpi"}


@BY_TYPE
async def test_a_command_that_the_type_does_not_know_is_refused_and_nothing_is_stored(
    tenant: Tenant, type: str
) -> None:
    integration = an_integration_of(type, id="one")
    if type not in ACTIVATED:
        failure = await fails(created_as(tenant, integration, activate_connection=True))
        assert (failure.reason, set(failure.violations)) == ("INVALID_FIELD", {"activate_connection"})
        assert (await fails(get(tenant, integration))).code is Code.NOT_FOUND
    await created_as(tenant, integration)
    patch = Integration(id="one", display_name="after")
    for flag in {"activate_connection", "retry_credentials_exchange"} - _commands(type):
        failure = await fails(update(tenant, patch, **{flag: True}))
        assert (failure.reason, set(failure.violations)) == ("INVALID_FIELD", {flag})
        assert (await get(tenant, integration)).display_name == ""


def _commands(type: str) -> set[str]:
    commands = {"activate_connection": ACTIVATED, "retry_credentials_exchange": RETRIED}
    return {flag for flag, types in commands.items() if type in types}


async def test_a_command_starts_a_run_and_the_integration_names_it(tenant: Tenant) -> None:
    crm, roaming = (an_integration_of(type, id=type, enabled=False) for type in ("salesforce", "ocpi"))
    created = await created_as(tenant, crm, activate_connection=True)
    run = await tenant.reader.runs.GetRun(GetRunRequest(id=created.latest_run_id))
    assert (run.integration_id, run.kind) == ("salesforce", RUN_KIND_TOKEN_EXCHANGE)
    await created_as(tenant, roaming)
    changed = await update(tenant, Integration(id="ocpi"), retry_credentials_exchange=True)
    run = await tenant.reader.runs.GetRun(GetRunRequest(id=changed.latest_run_id))
    assert (run.integration_id, run.kind) == ("ocpi", RUN_KIND_CREDENTIALS)
    assert await get(tenant, changed) == changed


async def test_a_command_that_nothing_here_carries_out_is_refused_and_nothing_is_stored(
    tenant: Tenant, running: Evbridge
) -> None:
    service = IntegrationService(running.database, running.keyring, EgressPolicy(True, True), supported=(), takes={})
    integration = an_integration_of("salesforce", id="crm")
    request = CreateIntegrationRequest(integration=integration, activate_connection=True)
    with pytest.raises(InvalidArgument):
        await service.CreateIntegration(request, Caller(tenant.name, "key", options.ROLE_ADMIN))
    assert (await fails(get(tenant, integration))).code is Code.NOT_FOUND


async def test_a_list_is_filtered_by_every_type(tenant: Tenant) -> None:
    for type in CONNECTIONS:
        await created_as(tenant, an_integration_of(type, limits=RequestLimits(requests_per_minute=60)))
    for type in CONNECTIONS:
        (found,) = await _list(tenant, type=f"INTEGRATION_TYPE_{type.upper()}")
        assert found.WhichOneof("connection") == type


@pytest.mark.parametrize("vats", [["x"], ["x", "x"], ["1e9"], ["", ""]])
async def test_a_tax_of_a_vat_that_is_no_number_is_refused(tenant: Tenant, vats: list[str]) -> None:
    taxes = [AmpecoTax(vat=Decimal(value=vat), tax_id=1) for vat in vats]
    integration = an_integration_of("ampeco", ampeco=AmpecoConnection(api_token="token", taxes=taxes))
    failure = await fails(created_as(tenant, integration))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
