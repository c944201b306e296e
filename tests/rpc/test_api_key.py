"""Keys that admins make, and what they are limited to."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from evbridge.options.v1.options_pb2 import ROLE_ADMIN, ROLE_READER, ROLE_WRITER, Role
from evbridge.v1.api_key_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    GetKeyRequest,
    Key,
    ListKeysRequest,
    RevokeKeyRequest,
)
from evbridge.v1.company_pb2 import ListCompaniesRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, GetIntegrationRequest, ListIntegrationsRequest
from evbridge.v1.location_pb2 import LocationKey
from evbridge.v1.party_pb2 import ListPartiesRequest
from evbridge.v1.publication_pb2 import GetPartnerViewRequest
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Evbridge, evbridge
from service.domain.pages import MAX_SIZE
from service.storage.statements import Statement
from tests.conftest import Tenant
from tests.front_door import Client, an_integration, command, environment, fails, settings

Code = grpc.StatusCode
LISTS = ListCompaniesRequest()
PARTIES = "evbridge.v1.PartyService"
ENDED = Statement("ended", "UPDATE api_key SET expire_time = now() WHERE key_id = $1")
KEPT = Statement("kept", "SELECT string_agg(convert_from(answer, 'LATIN1'), '') FROM idempotency WHERE tenant_id = $1")


def after(**time: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(**time))
    return stamp


async def make(admin: Client, role: Role.ValueType = ROLE_READER, **limits: object) -> CreateKeyResponse:
    return await admin.keys.CreateKey(CreateKeyRequest(key=Key(name="a test", role=role, **limits)))  # type: ignore[arg-type]


async def test_a_key_works_and_its_secret_is_shown_once(
    channel: grpc.aio.Channel, tenant: Tenant, running: Evbridge
) -> None:
    request = CreateKeyRequest(key=Key(name="billing", role=ROLE_WRITER), request_id=str(uuid4()))
    made = await tenant.admin.keys.CreateKey(request)
    assert made.secret.split("_")[1] == made.key.id
    await Client(channel, made.secret).companies.ListCompanies(LISTS)

    again = await tenant.admin.keys.CreateKey(request)
    assert again == made, "a repeated request gets its answer again"
    request.key.role = ROLE_ADMIN
    assert (await fails(tenant.admin.keys.CreateKey(request))).reason == "REQUEST_ID_REUSED"

    shown = await tenant.admin.keys.GetKey(GetKeyRequest(id=made.key.id))
    listed = await tenant.admin.keys.ListKeys(ListKeysRequest(page_size=MAX_SIZE))
    assert shown in listed.keys
    shown.ClearField("last_use_time")
    assert shown == made.key
    kept = await running.database.value(KEPT, tenant.name)
    for text in (str(listed), kept):
        assert made.key.id in text
        assert made.secret.split("_", 2)[2] not in text


async def test_a_rehearsed_key_does_not_exist(tenant: Tenant) -> None:
    request = CreateKeyRequest(key=Key(role=ROLE_READER), validate_only=True)
    made = await tenant.admin.keys.CreateKey(request)
    assert (made.key.role, made.secret) == (ROLE_READER, "")
    assert (await fails(tenant.admin.keys.GetKey(GetKeyRequest(id=made.key.id)))).code is Code.NOT_FOUND


async def test_a_revoked_key_stays_revoked(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    made = await make(tenant.admin)
    revoked = await tenant.admin.keys.RevokeKey(RevokeKeyRequest(id=made.key.id))
    assert revoked.HasField("revoke_time")
    assert await tenant.admin.keys.RevokeKey(RevokeKeyRequest(id=made.key.id)) == revoked
    failure = await fails(Client(channel, made.secret).companies.ListCompanies(LISTS))
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_REQUIRED")


async def test_pages_hold_the_keys_in_force_and_with_show_ended_all(tenant: Tenant, running: Evbridge) -> None:
    ids = {name: (await make(tenant.admin)).key.id for name in ("kept", "revoked", "expired")}
    await tenant.admin.keys.RevokeKey(RevokeKeyRequest(id=ids["revoked"]))
    await running.database.run(ENDED, ids["expired"])

    async def listed(**filters: bool) -> set[str]:
        request, found = ListKeysRequest(page_size=2, **filters), list[str]()
        while page := await tenant.admin.keys.ListKeys(request):
            found += [key.id for key in page.keys]
            if not page.next_page_token:
                assert found == sorted(found)
                return {*found}
            request.page_token = page.next_page_token
        raise AssertionError

    own = {key.split("_")[1] for key in tenant.keys.values()}
    assert await listed() == {*own, ids["kept"]}
    assert await listed(show_ended=True) == {*own, *ids.values()}


async def test_another_tenants_admin_neither_sees_nor_revokes_a_key(
    tenant: Tenant, new_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    made, other = await make(tenant.admin), await new_tenant()
    for call in (
        other.admin.keys.GetKey(GetKeyRequest(id=made.key.id)),
        other.admin.keys.RevokeKey(RevokeKeyRequest(id=made.key.id)),
    ):
        assert (await fails(call)).code is Code.NOT_FOUND
    assert made.key.id not in str(await other.admin.keys.ListKeys(ListKeysRequest(show_ended=True)))
    assert made.key.id in str(await tenant.admin.keys.ListKeys(ListKeysRequest())), "the control"


async def test_a_key_that_ended_says_so(channel: grpc.aio.Channel, tenant: Tenant, running: Evbridge) -> None:
    lasting, ended = await make(tenant.admin, expire_time=after(hours=1)), await make(tenant.admin)
    await running.database.run(ENDED, ended.key.id)
    await Client(channel, lasting.secret).companies.ListCompanies(LISTS)
    failure = await fails(Client(channel, ended.secret).companies.ListCompanies(LISTS))
    assert (failure.code, failure.reason) == (Code.UNAUTHENTICATED, "CREDENTIAL_EXPIRED")
    assert failure.metadata["expire_time"].endswith("Z")


async def test_what_a_key_cannot_be_is_named(tenant: Tenant) -> None:
    wrong = Key(
        role=ROLE_READER,
        services=[PARTIES, "evbridge.v1.PartyServices", "evbridge.partner.ocpi.v2.LocationsSender"],
        expire_time=after(seconds=-1),
    )
    failure = await fails(tenant.admin.keys.CreateKey(CreateKeyRequest(key=wrong)))
    assert (failure.code, failure.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert {*failure.violations} == {"key.services[1]", "key.services[2]", "key.expire_time"}
    failure = await fails(make(tenant.admin, integrations=["nowhere"]))
    assert (failure.reason, {*failure.violations}) == ("REFERENCE_NOT_FOUND", {"key.integrations[0]"})
    failure = await fails(tenant.admin.keys.CreateKey(CreateKeyRequest(key=Key(calls_per_minute=-1))))
    assert {*failure.violations} == {"key.role", "key.calls_per_minute"}


async def test_a_key_makes_none_that_may_more(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    services, end = ["evbridge.v1.KeyService", PARTIES], after(hours=1)
    maker = Client(channel, (await make(tenant.admin, ROLE_ADMIN, services=services, expire_time=end)).secret)
    less = (await make(maker, ROLE_ADMIN, services=[PARTIES], expire_time=end)).secret
    await Client(channel, less).parties.ListParties(ListPartiesRequest())
    for more, limit in (
        ({"expire_time": end}, "services"),
        ({"services": [*services, "evbridge.v1.RunService"], "expire_time": end}, "services"),
        ({"services": services}, "expire_time"),
        ({"services": services, "expire_time": after(hours=2)}, "expire_time"),
    ):
        failure = await fails(make(maker, **more))
        assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "KEY_LIMITED"), more
        assert failure.metadata == {"limit": limit}


async def test_a_key_for_one_integration_works_with_no_other(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    ids = [f"i-{uuid4().hex[:8]}" for _ in range(2)]
    for id in ids:
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=an_integration(id=id)))
    own, other = ids
    limited = Client(channel, (await make(tenant.admin, ROLE_ADMIN, integrations=[own])).secret)
    got = await limited.integrations.GetIntegration(GetIntegrationRequest(id=own))
    assert got.id == own
    refused = {
        "another": limited.integrations.GetIntegration(GetIntegrationRequest(id=other)),
        "one that does not exist": limited.integrations.GetIntegration(GetIntegrationRequest(id="nowhere")),
        "all": limited.integrations.ListIntegrations(ListIntegrationsRequest()),
        "a key for all": make(limited, ROLE_READER),
    }
    for what, call in refused.items():
        failure = await fails(call)
        assert (failure.code, failure.reason) == (Code.PERMISSION_DENIED, "KEY_LIMITED"), what
    # What the partner of its own sees is asked for by the keys of our objects, which name no integration.
    view = GetPartnerViewRequest(integration_id=own, location=LocationKey(country_code="DE", party_id="ABC", id="L"))
    assert (await fails(limited.publication.GetPartnerView(view))).code is Code.NOT_FOUND
    view.location.integration_id = other
    assert (await fails(limited.publication.GetPartnerView(view))).reason == "KEY_LIMITED"


async def test_calls_beyond_a_keys_rate_are_refused_and_cost_others_nothing(
    channel: grpc.aio.Channel, tenant: Tenant
) -> None:
    slow = Client(channel, (await make(tenant.admin, calls_per_minute=1)).secret)
    await slow.companies.ListCompanies(LISTS)
    for _ in range(3):
        failure = await fails(slow.companies.ListCompanies(LISTS))
        assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert failure.metadata == {"calls_per_minute": "1"}
        assert 0 < (failure.retry_after_s or 0) <= 60
    await asyncio.gather(*(tenant.reader.companies.ListCompanies(LISTS) for _ in range(20)))  # the control


async def test_the_setting_limits_keys_without_a_limit_of_their_own(shared_database_url: str, tenant: Tenant) -> None:
    fast = (await make(tenant.admin, calls_per_minute=1_000_000)).secret
    changes = {"delivery": False, "ocpi_listen": "", "calls_per_minute": 1}
    async with (
        evbridge(settings(shared_database_url, **changes)) as limiting,
        grpc.aio.insecure_channel(limiting.address) as channel,
    ):
        common = Client(channel, tenant.keys["reader"])
        await common.companies.ListCompanies(LISTS)
        assert (await fails(common.companies.ListCompanies(LISTS))).reason == "RATE_LIMITED"
        for _ in range(3):
            await Client(channel, fast).companies.ListCompanies(LISTS)


async def test_when_a_key_was_last_used_is_told(channel: grpc.aio.Channel, tenant: Tenant) -> None:
    made = await make(tenant.admin)
    asked = GetKeyRequest(id=made.key.id)
    assert not (await tenant.admin.keys.GetKey(asked)).HasField("last_use_time")
    await Client(channel, made.secret).companies.ListCompanies(LISTS)
    async with asyncio.timeout(60):
        while not (used := await tenant.admin.keys.GetKey(asked)).HasField("last_use_time"):
            await asyncio.sleep(0.01)
    assert used.last_use_time.ToDatetime() >= made.key.create_time.ToDatetime()


async def test_the_command_line_limits_keys_too(database_url: str) -> None:
    environ = environment(database_url)
    create = ("keys", "create", "--tenant", "acme", "--role", "reader")
    made = await command(environ, *create, "--service", PARTIES, "--expires", "2999-01-01", "--calls-per-minute", "1")
    assert (made.code, made.err) == (0, "")
    listed = (await command(environ, "keys", "list")).out.split("\t")
    assert listed[4:7] == ["in force until 2999-01-01 00:00", "never used", PARTIES]
    async with (
        evbridge(settings(database_url, delivery=False, ocpi_listen="")) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        limited = Client(channel, made.out.strip())
        assert (await fails(limited.companies.ListCompanies(LISTS))).metadata["limit"] == "services"
        await limited.parties.ListParties(ListPartiesRequest())
        assert (await fails(limited.parties.ListParties(ListPartiesRequest()))).reason == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--integration", "nowhere", "there is no integration nowhere"),
        ("--expires", "soon", "use a date or a time"),
    ],
)
async def test_the_command_line_says_what_a_key_cannot_be(
    shared_database_url: str, option: str, value: str, said: str
) -> None:
    create = ("keys", "create", "--tenant", "acme", "--role", "reader")
    made = await command(environment(shared_database_url), *create, option, value)
    assert (made.code > 0, made.out) == (True, "")
    assert said in made.err
