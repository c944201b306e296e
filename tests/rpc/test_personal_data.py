"""ErasePersonalData: a driver leaves a trace wherever it is stored, and none of it is left."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from evbridge.v1.authorization_pb2 import ALLOWED_TYPE_ALLOWED, AnswerAuthorizationRequest, AuthorizationQuestion
from evbridge.v1.cdr_pb2 import Cdr, CreateCdrRequest, ListCdrsRequest
from evbridge.v1.command_pb2 import COMMAND_RESULT_TYPE_ACCEPTED, Command, SendCommandRequest, StartSession
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR
from evbridge.v1.integration_pb2 import IntegrationModels
from evbridge.v1.partner_pb2 import ListExchangesRequest, SetExchangeRecordingRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, CreatePartyRequest
from evbridge.v1.personal_data_pb2 import (
    KEPT_REASON_ACCOUNTS,
    KEPT_REASON_NOT_DELIVERED,
    KEPT_REASON_UNDER_WAY,
    ErasePersonalDataRequest,
    ErasePersonalDataResponse,
    KeptReason,
    PersonalDataKind,
)
from evbridge.v1.session_pb2 import SESSION_STATUS_COMPLETED
from evbridge.v1.token_pb2 import WHITELIST_TYPE_NEVER, CreateTokenRequest, TokenKey
from evbridge.v1.types_pb2 import DisplayText
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Evbridge
from service.domain.personal_data import is_pseudonym
from service.resources.personal_data import personal_data_sweep
from service.storage.pool import Database
from service.storage.statements import Statement
from tests.charged import a_cdr, a_cdr_token
from tests.conftest import Tenant
from tests.front_door import Client, a_party, a_token, at_rest, fails
from tests.partners import OcpiPartner
from tests.rpc import test_authorization, test_command, test_ocpi_charged, test_ocpi_pull, test_ocpi_tokens
from tests.rpc.test_ocpi_charged_received import written
from tests.rpc.test_ocpi_pull import operator, pulled
from tests.rpc.test_registration import ID, Side, Sides, sides

__all__ = ["operator", "sides"]

_COLUMNS = Statement(
    "columns",
    """
    SELECT table_name, column_name, data_type = 'bytea' AS is_bytes
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
    """,
)
_AGED = Statement(
    "aged", "UPDATE cdr SET update_time = now() - interval '400 days' WHERE tenant_id = $1 AND key = 'c0'"
)


async def traces(database: Database, *texts: str) -> set[str]:
    """The tables that hold one of the texts, in whichever column and case."""
    found = set()
    for table, column, is_bytes in await database.rows(_COLUMNS):
        text = f"encode({column}, 'escape')" if is_bytes else f"{column}::text"
        holds = f"SELECT EXISTS (SELECT FROM {table} WHERE lower({text}) LIKE ANY ($1::text[]))"
        if await database.value(Statement("holds", holds), [f"%{each.lower()}%" for each in texts]):
            found.add(table)
    return found


async def erase(client: Client, **request: Any) -> ErasePersonalDataResponse:
    response: ErasePersonalDataResponse = await client.personal_data.ErasePersonalData(
        ErasePersonalDataRequest(**request)
    )
    return response


def erased(response: ErasePersonalDataResponse) -> dict[str, int]:
    return {_kind(each.kind): each.count for each in response.erased}


def kept(response: ErasePersonalDataResponse) -> set[tuple[str, KeptReason.ValueType, int]]:
    return {(_kind(each.kind), each.reason, each.count) for each in response.kept}


def _kind(kind: PersonalDataKind.ValueType) -> str:
    return PersonalDataKind.Name(kind).removeprefix("PERSONAL_DATA_KIND_")


class Driver:
    """Somebody whose ids nobody else has."""

    def __init__(self) -> None:
        self.uid = f"CANARY{uuid4().hex[:8]}"
        self.contract_id = f"DE-MSP-C{uuid4().hex[:8].upper()}-X"
        self.name = f"Jane Canary {uuid4().hex[:8]}"
        ids = {"party_id": "MSP", "uid": self.uid, "contract_id": self.contract_id}
        self.token = a_token(**ids, visual_number=self.name, whitelist=WHITELIST_TYPE_NEVER)
        self.cdr_token = a_cdr_token(**ids)
        self.all = (self.uid, self.contract_id, self.name)


async def charge(cpo: Side, emsp: Side, driver: Driver) -> None:
    """The whole way from a token to a CDR, while exchanges are recorded."""
    for side in (cpo, emsp):
        record = SetExchangeRecordingRequest(integration_id=ID)
        record.until.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        await side.client.partners.SetExchangeRecording(record)
    await test_ocpi_charged.pushing(emsp, IntegrationModels(push_token=True))
    request = CreateTokenRequest(token=driver.token, request_id=str(uuid4()))
    await emsp.client.tokens.CreateToken(request)
    await at_rest(emsp.client, ID)

    def allow(question: AuthorizationQuestion) -> AnswerAuthorizationRequest:
        info = DisplayText(language="en", text=f"Welcome {driver.name}")
        return AnswerAuthorizationRequest(id=question.id, allowed=ALLOWED_TYPE_ALLOWED, info=info)

    async with test_authorization.serving(emsp, allow):
        assert driver.name in (await test_authorization.authorize(cpo, driver.uid)).info.text

    async def start(command: Command) -> None:
        await test_command.answer(cpo, command, test_command.TAKEN)
        await test_command.report(cpo, command, COMMAND_RESULT_TYPE_ACCEPTED)

    async with test_command.serving(cpo, start):
        starting = StartSession(token=driver.token, location_id="L1")
        await test_command.send(emsp, SendCommandRequest(integration_id=ID, start_session=starting))
    await test_ocpi_charged.tell(cpo, cdr_token=driver.cdr_token)
    await at_rest(cpo.client, ID)


async def stop(cpo: Side, driver: Driver) -> Cdr:
    end = Timestamp(seconds=1_790_003_600)
    ended = {"status": SESSION_STATUS_COMPLETED, "end_date_time": end}
    await test_ocpi_charged.tell(cpo, cdr_token=driver.cdr_token, **ended)
    cdr = await test_ocpi_charged.bill(cpo, cdr_token=driver.cdr_token)
    await at_rest(cpo.client, ID)
    return cdr


@pytest.mark.parametrize("version", ["2.3.0", "2.1.1"])
async def test_a_driver_is_erased_on_both_sides_and_bills_stay(sides: Sides, version: str) -> None:
    driver, other = Driver(), Driver()
    async with test_ocpi_charged.charging(sides, version) as (cpo, emsp):
        await charge(cpo, emsp, driver)
        await test_ocpi_tokens.store(emsp, other.token)
        under_way = await erase(cpo.client, contract_id=driver.contract_id, validate_only=True)
        assert ("SESSION", KEPT_REASON_UNDER_WAY, 1) in kept(under_way)
        billed = await stop(cpo, driver)
        everywhere = {"token", "change", "session", "cdr", "received_document", "command", "question"}
        assert await traces(cpo.running.database, *driver.all) >= everywhere | {"partner_document", "peer_object"}
        there = await traces(emsp.running.database, *driver.all)
        assert there >= everywhere | {"partner_document", "partner_object", "delivery", "disclosure", "idempotency"}
        for side in (cpo, emsp):
            assert (await side.client.partners.ListExchanges(ListExchangesRequest(integration_id=ID))).exchanges
            assert "exchange" not in await traces(side.running.database, *driver.all)

        rehearsed = await erase(cpo.client, contract_id=driver.contract_id.lower(), validate_only=True)
        assert await traces(cpo.running.database, *driver.all) >= everywhere
        again = {"contract_id": driver.contract_id, "request_id": str(uuid4())}
        first = await erase(cpo.client, **again)
        assert first == rehearsed == await erase(cpo.client, **again)
        assert await traces(cpo.running.database, *driver.all) == set()
        assert erased(first).items() >= {"TOKEN": 1, "SESSION": 1, "CDR": 1, "COMMAND": 1}.items()
        assert kept(first) == {("SESSION", KEPT_REASON_ACCOUNTS, 1), ("CDR", KEPT_REASON_ACCOUNTS, 1)}

        told = await erase(emsp.client, contract_id=driver.contract_id)
        assert ("TOKEN", KEPT_REASON_NOT_DELIVERED, 1) in kept(told)
        await at_rest(emsp.client, ID)
        assert erased(await erase(emsp.client, contract_id=driver.contract_id)).keys() == {"TOKEN"}
        assert await traces(emsp.running.database, *driver.all) == set()
        assert not (await erase(emsp.client, contract_id=driver.contract_id)).erased

        assert await traces(emsp.running.database, *other.all) >= {"token", "delivery"}
        (mine,) = (await cpo.client.cdrs.ListCdrs(ListCdrsRequest())).cdrs
        (theirs,) = (await emsp.client.cdrs.ListCdrs(ListCdrsRequest(integration_id=ID))).cdrs
        for cdr in (mine, theirs):
            assert is_pseudonym(cdr.cdr_token.contract_id)
            assert (cdr.total_cost.excl_vat, cdr.total_energy) == (billed.total_cost.excl_vat, billed.total_energy)
        assert mine.last_updated == billed.last_updated
        (stored,) = [each for each in await at_rest(cpo.client, ID) if each.object_kind == OBJECT_KIND_CDR]
        assert stored.peer_object.external_id.endswith("/cdrs/DE/CPO/C1")


@pytest.fixture
async def client(tenant: Tenant, running: Evbridge, operator: OcpiPartner) -> AsyncIterator[Client]:
    """It pulls what the operator shows."""
    operator.party_role, operator.modules = "CPO", ("credentials", "cdrs")
    models = IntegrationModels(pull_cdr=True)
    await test_ocpi_pull.registered(tenant.admin, operator, models, running.database)
    yield tenant.admin


def shown(whose: Driver, id: str, **changes: Any) -> dict[str, Any]:
    owned = {"country_code": "NL", "party_id": "TNM", "last_updated": Timestamp(seconds=1_790_003_600)}
    return written(a_cdr(**owned, id=id, cdr_token=whose.cdr_token)) | changes


async def test_what_a_partner_shows_again_does_not_bring_the_driver_back(
    client: Client, tenant: Tenant, running: Evbridge, operator: OcpiPartner
) -> None:
    driver = Driver()
    bad = shown(driver, "C2", total_cost="much", driver={"name": driver.name})
    operator.lists["cdrs"] = [shown(driver, "C1", driver={"name": driver.name}), bad]
    await pulled(client, whole=True)
    assert await traces(running.database, *driver.all) >= {"cdr", "received_document", "quarantine"}
    key = TokenKey(country_code="DE", party_id="MSP", uid=driver.uid)
    found = await erase(client, token=key)
    assert erased(found).items() >= {"CDR": 1, "QUARANTINED_OBJECT": 1}.items()
    assert await traces(running.database, *driver.all) == set()
    operator.lists["cdrs"] = operator.lists["cdrs"][:1]
    run = await pulled(client, whole=True)
    assert [step.refused_count for step in run.steps] == [0]
    assert await traces(running.database, *driver.all) == set()
    (cdr,) = (await client.cdrs.ListCdrs(ListCdrsRequest(integration_id=test_ocpi_pull.ID))).cdrs
    assert is_pseudonym(cdr.cdr_token.uid)
    denied = await fails(erase(tenant.writer, token=key))
    assert (denied.code, denied.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")


async def test_a_token_that_could_not_be_taken_is_erased_in_findings(
    tenant: Tenant, running: Evbridge, operator: OcpiPartner
) -> None:
    operator.party_role, operator.modules = "EMSP", ("credentials", "tokens")
    await test_ocpi_pull.registered(
        tenant.admin, operator, IntegrationModels(pull_tokens_all=True), running.database, PARTY_ROLE_CPO
    )
    driver = Driver()
    operator.lists["tokens"] = [test_ocpi_pull.the_token(1) | {"uid": driver.uid, "whitelist": None}]
    await pulled(tenant.admin, whole=True)
    assert await traces(running.database, driver.uid) == {"quarantine", "run_finding"}
    key = TokenKey(country_code="NL", party_id="TNM", uid=driver.uid.lower())
    found = await erase(tenant.admin, token=key)
    assert erased(found) == {"RUN_FINDING": 1, "QUARANTINED_OBJECT": 1}
    assert await traces(running.database, driver.uid) == set()


async def test_after_its_time_a_bill_leads_to_nobody(tenant: Tenant, running: Evbridge) -> None:
    driver = Driver()
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    for number in range(2):
        cdr = a_cdr(id=f"C{number}", cdr_token=driver.cdr_token)
        await tenant.writer.cdrs.CreateCdr(CreateCdrRequest(cdr=cdr))
    await running.database.run(_AGED, tenant.name)
    await personal_data_sweep(running.database, running.keyring, 401)
    assert await traces(running.database, *driver.all) == {"cdr"}
    await personal_data_sweep(running.database, running.keyring, 399)
    assert await traces(running.database, *driver.all) == {"cdr"}, "one is not old"
    page = await tenant.reader.cdrs.ListCdrs(ListCdrsRequest(contract_id=driver.contract_id))
    assert [cdr.id for cdr in page.cdrs] == ["C1"]
