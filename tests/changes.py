"""Every rpc of ours that changes something, called once: what an audit has to know of."""

from collections.abc import Awaitable
from typing import Any
from uuid import UUID, uuid4

from evbridge.options.v1.options_pb2 import ROLE_READER
from evbridge.v1 import (
    api_key_pb2,
    authorization_pb2,
    cdr_pb2,
    charger_pb2,
    command_pb2,
    company_pb2,
    delivery_pb2,
    integration_pb2,
    invoice_reconciliation_pb2,
    location_pb2,
    partner_pb2,
    party_pb2,
    personal_data_pb2,
    publication_pb2,
    quarantine_pb2,
    registration_pb2,
    run_pb2,
    session_pb2,
    tariff_pb2,
    token_pb2,
)
from evbridge.v1.types_pb2 import BusinessDetails
from google.protobuf.descriptor_pb2 import MethodOptions

from service.app import Evbridge
from service.storage.command import command_insert
from service.storage.question import Kind, listener_seen, question_ask
from service.storage.session import session_put
from service.storage.statements import Statement
from tests.charged import a_cdr, a_session
from tests.conftest import Tenant
from tests.front_door import (
    a_charger,
    a_company,
    a_location,
    a_party,
    a_record,
    a_rule,
    a_tariff,
    a_token,
    an_integration,
    an_integration_of,
    fails,
)
from tests.rpc.test_access import METHODS
from tests.rpc.test_malformed import QUARANTINED

_ASKING = {"AuthorizeToken", "ServeAuthorizations", "ServeChargingPreferences", "ServeCommands"}
"""They ask, or listen, and change nothing."""
CHANGING = {
    f"{method.containing_service.full_name}/{method.name}"
    for method in METHODS
    if method.full_name.startswith("evbridge.v1.")
    and method.name not in _ASKING
    and method.GetOptions().idempotency_level != MethodOptions.NO_SIDE_EFFECTS
}


async def every_change(tenant: Tenant, running: Evbridge) -> None:
    """Of a tenant with the party DE*ABC, on a server that delivers nothing."""
    admin, tag = tenant.admin, uuid4().hex[:8]
    cp, hub = f"cp-{tag}", f"hub-{tag}"
    await _integrations(tenant, running, cp, hub)
    tariff, location, token, charger = a_tariff(), a_location(), a_token(), a_charger()
    await admin.tariffs.CreateTariff(tariff_pb2.CreateTariffRequest(tariff=tariff))
    await admin.tariffs.UpdateTariff(tariff_pb2.UpdateTariffRequest(tariff=tariff))
    await admin.tariffs.BatchUpsertTariffs(tariff_pb2.BatchUpsertTariffsRequest(tariffs=[tariff]))
    await admin.tariffs.DeleteTariff(tariff_pb2.DeleteTariffRequest(key=_key(tariff_pb2.TariffKey, tariff)))
    key = _key(location_pb2.LocationKey, location)
    await admin.locations.CreateLocation(location_pb2.CreateLocationRequest(location=location))
    location.name = "Harbour"
    await admin.locations.UpdateLocation(location_pb2.UpdateLocationRequest(location=location))
    batch = location_pb2.BatchUpsertLocationsRequest(locations=[location, a_location(time_zone="Luna/Tycho")])
    await admin.locations.BatchUpsertLocations(batch)
    reports = [{"location": key, "evse_uid": uid, "status": "EVSE_STATUS_CHARGING"} for uid in ("E1", "E2", "E3")]
    await admin.locations.ReportEvseStatus(location_pb2.ReportEvseStatusRequest(reports=reports))
    await admin.locations.DeleteLocation(location_pb2.DeleteLocationRequest(key=key))
    await admin.tokens.CreateToken(token_pb2.CreateTokenRequest(token=token))
    await admin.tokens.UpdateToken(token_pb2.UpdateTokenRequest(token=token))
    await admin.tokens.BatchUpsertTokens(token_pb2.BatchUpsertTokensRequest(tokens=[token]))
    named = token_pb2.TokenKey(country_code="DE", party_id="ABC", uid=token.uid, type=token.type)
    await admin.tokens.DeleteToken(token_pb2.DeleteTokenRequest(key=named))
    await admin.chargers.CreateCharger(charger_pb2.CreateChargerRequest(charger=charger))
    await admin.chargers.UpdateCharger(charger_pb2.UpdateChargerRequest(charger=charger))
    await admin.chargers.DeleteCharger(charger_pb2.DeleteChargerRequest(id=charger.id))
    session = a_session()
    await admin.sessions.CreateSession(session_pb2.CreateSessionRequest(session=session))
    await admin.sessions.UpdateSession(session_pb2.UpdateSessionRequest(session=session))
    await admin.sessions.BatchUpsertSessions(session_pb2.BatchUpsertSessionsRequest(sessions=[session]))
    await admin.cdrs.CreateCdr(cdr_pb2.CreateCdrRequest(cdr=a_cdr()))
    await admin.cdrs.BatchCreateCdrs(cdr_pb2.BatchCreateCdrsRequest(cdrs=[a_cdr(), a_cdr()]))
    key = api_key_pb2.Key(role=ROLE_READER, name="of the test")
    made = await admin.keys.CreateKey(api_key_pb2.CreateKeyRequest(key=key))
    await admin.keys.RevokeKey(api_key_pb2.RevokeKeyRequest(id=made.key.id))
    erased = personal_data_pb2.ErasePersonalDataRequest(contract_id="DE-ABC-C99999999-X")
    await admin.personal_data.ErasePersonalData(erased)
    await _parties(tenant)
    await _deliveries(tenant, cp)
    await _rules(tenant, cp)
    await _invoices(tenant, hub)
    await _runs(tenant, running, cp, hub)
    await _questions(tenant, running, hub)
    for id in (cp, hub):
        request = integration_pb2.DeleteIntegrationRequest(id=id, force=True)
        await admin.integrations.DeleteIntegration(request)


async def _integrations(tenant: Tenant, running: Evbridge, cp: str, hub: str) -> None:
    calls = tenant.admin.integrations
    ocpi = an_integration_of("ocpi", "", id=hub, parties=[{"country_code": "DE", "party_id": "ABC"}])
    for integration in (an_integration(id=cp), ocpi):
        await calls.CreateIntegration(integration_pb2.CreateIntegrationRequest(integration=integration))
    changed = an_integration("http://127.0.0.1:10", api_key="another-secret", id=cp)
    await calls.UpdateIntegration(integration_pb2.UpdateIntegrationRequest(integration=changed))
    await calls.PauseIntegration(integration_pb2.PauseIntegrationRequest(id=cp, reason="maintenance"))
    await calls.ResumeIntegration(integration_pb2.ResumeIntegrationRequest(id=cp))
    await tenant.admin.partners.SetExchangeRecording(partner_pb2.SetExchangeRecordingRequest(integration_id=cp))


async def _invoices(tenant: Tenant, hub: str) -> None:
    calls, messages = tenant.admin.invoice_reconciliation, invoice_reconciliation_pb2
    record = a_record(recipient_integration_id=hub)
    await calls.CreateInvoiceReconciliationRecord(messages.CreateInvoiceReconciliationRecordRequest(record=record))
    await calls.UpdateInvoiceReconciliationRecord(messages.UpdateInvoiceReconciliationRecordRequest(record=record))
    batch = messages.BatchUpsertInvoiceReconciliationRecordsRequest(records=[record])
    await calls.BatchUpsertInvoiceReconciliationRecords(batch)
    key = messages.InvoiceReconciliationRecordKey(country_code="DE", party_id="ABC", id=record.id)
    await calls.DeleteInvoiceReconciliationRecord(messages.DeleteInvoiceReconciliationRecordRequest(key=key))


async def _parties(tenant: Tenant) -> None:
    calls, party = tenant.admin.parties, a_party(party_id="XYZ", business_details=BusinessDetails(name="Strom"))
    await calls.CreateParty(party_pb2.CreatePartyRequest(party=party))
    await calls.UpdateParty(party_pb2.UpdatePartyRequest(party=party))
    await calls.DeleteParty(party_pb2.DeletePartyRequest(country_code="DE", party_id="XYZ"))


async def _deliveries(tenant: Tenant, cp: str) -> None:
    calls, company = tenant.admin.deliveries, a_company()
    await tenant.admin.companies.UpsertCompany(company_pb2.UpsertCompanyRequest(company=company))
    listed = await calls.ListDeliveries(delivery_pb2.ListDeliveriesRequest(object_id=company.id, integration_id=cp))
    (delivery,) = listed.deliveries
    await calls.RetryDelivery(delivery_pb2.RetryDeliveryRequest(id=delivery.id))
    await calls.DiscardDelivery(delivery_pb2.DiscardDeliveryRequest(id=delivery.id))
    await calls.RetryParkedDeliveries(delivery_pb2.RetryParkedDeliveriesRequest(integration_id=cp))
    await calls.RedeliverAll(delivery_pb2.RedeliverAllRequest(integration_id=cp))
    await tenant.admin.companies.DeleteCompany(company_pb2.DeleteCompanyRequest(id=company.id))


async def _rules(tenant: Tenant, cp: str) -> None:
    calls, rule = tenant.admin.publication, a_rule(integration_id=cp)
    await calls.CreatePublicationRule(publication_pb2.CreatePublicationRuleRequest(rule=rule))
    await calls.UpdatePublicationRule(publication_pb2.UpdatePublicationRuleRequest(rule=rule))
    await calls.DeletePublicationRule(publication_pb2.DeletePublicationRuleRequest(integration_id=cp, id=rule.id))


async def _runs(tenant: Tenant, running: Evbridge, cp: str, hub: str) -> None:
    registration, runs = tenant.admin.registration, tenant.admin.runs

    async def cancelled(starting: Awaitable[Any]) -> str:
        run: run_pb2.Run = await starting
        await runs.CancelRun(run_pb2.CancelRunRequest(id=run.id))
        return run.id

    started = run_pb2.StartRunRequest(integration_id=cp, kind=run_pb2.RUN_KIND_DIAGNOSE)
    run_id = await cancelled(runs.StartRun(started))
    await registration.IssueInitialToken(registration_pb2.IssueInitialTokenRequest(integration_id=hub))
    for name in ("RegisterIntegration", "RotateCredentials", "UnregisterIntegration"):
        request = getattr(registration_pb2, f"{name}Request")(integration_id=hub)
        await cancelled(getattr(registration, name)(request))
    kept = Statement("quarantined", QUARANTINED)
    id = str(await running.database.value(kept, tenant.name, cp, run_id))
    request = quarantine_pb2.DeleteQuarantinedObjectRequest(id=id)
    await tenant.admin.quarantine.DeleteQuarantinedObject(request)


async def _questions(tenant: Tenant, running: Evbridge, hub: str) -> None:
    """What partners ask, and commands; what is sent does not arrive."""
    commands = tenant.admin.commands
    stop = command_pb2.StopSession(session_id="S1")
    sent = command_pb2.SendCommandRequest(integration_id=hub, id=str(uuid4()), stop_session=stop)
    await fails(commands.SendCommand(sent))
    accepted = command_pb2.CommandResponse(result=command_pb2.COMMAND_RESPONSE_TYPE_ACCEPTED, timeout_s=30)
    received = command_pb2.COMMAND_DIRECTION_RECEIVED
    ids = {kind: str(uuid4()) for kind in Kind}
    id = ids[Kind.COMMAND]
    command = command_pb2.Command(id=id, integration_id=hub, direction=received, state=1, stop_session=stop)
    await command_insert(running.database, tenant.name, command, "")
    for kind, each in ids.items():
        of = (running.database, tenant.name, kind)
        await listener_seen(*of, uuid4(), hub)
        assert await question_ask(*of, UUID(each), hub, b"", lasts_s=60, heard_s=60)
    await commands.AnswerCommand(command_pb2.AnswerCommandRequest(id=id, response=accepted))
    allowed = authorization_pb2.AnswerAuthorizationRequest(
        id=ids[Kind.AUTHORIZATION], allowed=authorization_pb2.ALLOWED_TYPE_ALLOWED
    )
    await tenant.admin.authorizations.AnswerAuthorization(allowed)
    preferred = session_pb2.AnswerChargingPreferencesRequest(id=ids[Kind.CHARGING_PREFERENCES], response=1)
    await tenant.admin.sessions.AnswerChargingPreferences(preferred)
    session = a_session(integration_id=hub)
    async with running.database.transaction() as conn:
        await session_put(conn, tenant.name, [session], {})
    wanted = session_pb2.SetChargingPreferencesRequest(key=_key(session_pb2.SessionKey, session))
    wanted.key.integration_id = hub
    wanted.charging_preferences.profile_type = token_pb2.PROFILE_TYPE_CHEAP
    await fails(tenant.admin.sessions.SetChargingPreferences(wanted))
    done = command_pb2.CommandResult(result=command_pb2.COMMAND_RESULT_TYPE_ACCEPTED)
    await commands.ReportCommandResult(command_pb2.ReportCommandResultRequest(id=id, result=done))


def _key(form: Any, object: Any) -> Any:
    return form(country_code=object.country_code, party_id=object.party_id, id=object.id)
