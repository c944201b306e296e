"""What evbridge does, told step by step.

Every step is a real rpc over a real channel, and every HTTP exchange is one that the bridge made.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from textwrap import indent
from typing import Any, TypeVar

import grpc
from evbridge.partner.ampeco.v3 import charge_point_pb2, charge_point_pb2_grpc
from evbridge.v1 import (
    ampeco_connection_pb2,
    chargeprice_connection_pb2,
    company_pb2,
    company_pb2_grpc,
    delivery_pb2,
    delivery_pb2_grpc,
    integration_pb2,
    location_pb2,
    location_pb2_grpc,
    ocpi_connection_pb2,
    party_pb2,
    pricing_pb2,
    pricing_pb2_grpc,
    publication_pb2,
    publication_pb2_grpc,
    registration_pb2,
    registration_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    tariff_pb2,
    tariff_pb2_grpc,
)
from evbridge.v1 import integration_pb2_grpc as integration_grpc
from google.protobuf import timestamp_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from google.type.decimal_pb2 import Decimal

from service.bridge.ports import Exchange
from service.demo.data import Credential, fill
from service.demo.views import side_by_side
from service.domain.fields import take_secrets
from service.domain.pricing.table import table
from service.partners.chargeprice.simulator import Simulator
from service.simulator.faults import parse_fault

API_KEY = "demo-key"
COMPANY_ID = "1e49b853-36fc-47ed-9826-97828b5b2fdd"
PROVIDER_ID = "2e49b853-36fc-47ed-9826-97828b5b2fdd"
PARTNERS = ("hub", "fleet")
MAX_SHOWN = 300
M = TypeVar("M", bound=Message)
_OF_COMPANY = delivery_pb2.ListDeliveriesRequest(object_id=COMPANY_ID)
_DONE = (delivery_pb2.DELIVERY_STATE_DELIVERED, delivery_pb2.DELIVERY_STATE_PARKED)


class Story:
    """The rpcs of the demo, each shown with its answer."""

    def __init__(self, channel: grpc.aio.Channel, credential: Credential, simulator: Simulator) -> None:
        self._channel = channel
        self._integrations = integration_grpc.IntegrationServiceStub(channel)
        self._companies = company_pb2_grpc.CompanyServiceStub(channel)
        self._deliveries = delivery_pb2_grpc.DeliveryServiceStub(channel)
        self._pricing = pricing_pb2_grpc.PricingServiceStub(channel)
        self._charge_points = charge_point_pb2_grpc.ChargePointServiceStub(channel)
        self._publication = publication_pb2_grpc.PublicationServiceStub(channel)
        self._registration = registration_pb2_grpc.RegistrationServiceStub(channel)
        self._runs = run_pb2_grpc.RunServiceStub(channel)
        self._tariffs = tariff_pb2_grpc.TariffServiceStub(channel)
        self._locations = location_pb2_grpc.LocationServiceStub(channel)
        self._credential = credential
        self._simulator = simulator

    async def tell(self, partner_url: str, ampeco_url: str) -> None:
        say("1. An integration with Chargeprice. The key is sealed and never shown again")
        integration = integration_pb2.Integration(
            id="chargeprice-demo",
            type=integration_pb2.INTEGRATION_TYPE_CHARGEPRICE,
            display_name="Chargeprice (simulated)",
            enabled=True,
            chargeprice=chargeprice_connection_pb2.ChargepriceConnection(base_url=partner_url, api_key=API_KEY),
        )
        await self._call(
            self._integrations.CreateIntegration, integration_pb2.CreateIntegrationRequest(integration=integration)
        )

        say("2. The company of Chargeprice's documentation, created over gRPC, travels as PUT /v1/companies/{id}")
        company = company_pb2.Company(
            id=COMPANY_ID,
            version=1,
            name="EnBW",
            url="http://www.energy.com",
            is_cpo=True,
            is_emp=True,
            external_source_mapping=company_pb2.ExternalSourceMapping(going_electric_names=["EnBW"]),
            supported_emp_ids=[PROVIDER_ID],
        )
        await self._upsert(company)
        await self._delivered()

        say("3. An update. Our lock version guards our record, Chargeprice's its own")
        company.version, company.name = 2, "EnBW mobility+"
        await self._upsert(company)
        await self._delivered()
        print("  the same version once more is refused:")
        await self._upsert(company)

        say("4. The partner stores an update and its answer is lost: evbridge reads before it would send again")
        self._simulator.faults.append(parse_fault("lose_answer"))
        company.version, company.url = 3, "https://www.enbw.com/e-mobility"
        await self._upsert(company)
        await self._delivered()

        say("5. Someone else edits the company at Chargeprice: a version conflict, and nothing is overwritten unasked")
        self._simulator.edit(COMPANY_ID, name="EnBW (edited at the partner)")
        company.version, company.name = 4, "EnBW Energie"
        await self._upsert(company)
        parked = await self._delivered()

        say("6. A person decides that ours is right: RetryDelivery puts it on top")
        await self._call(
            self._deliveries.RetryDelivery,
            delivery_pb2.RetryDeliveryRequest(id=parked.id, overwrite_partner_change=True),
        )
        delivered = await self._delivered()
        held = self._simulator.companies[COMPANY_ID].attributes
        print(f"  the partner holds {held.name!r}, version {held.version}")
        if delivered.state != delivery_pb2.DELIVERY_STATE_DELIVERED or held.name != company.name:
            sys.exit("the delivery did not end as it should")

        say("7. Who we are, a partner of every type, tariffs, and the location of OCPI's own example")
        async for call in fill(self._channel, self._credential):
            print(f"  rpc  {call.method.name}: {call.subject}")

        say("8. What two partners see of that location: their rules select connectors and name the tariffs")
        key = location_pb2.LocationKey(country_code="BE", party_id="BEC", id="LOC1")
        views = {partner: await self._view(partner, key) for partner in PARTNERS}
        print(side_by_side(views))
        if views["hub"] == views["fleet"]:
            sys.exit("both partners see the same")

        say("9. What an evening's charging there costs through each partner, and why: QuotePrice, rounded to cents")
        for partner, type in zip(
            PARTNERS, (tariff_pb2.TARIFF_TYPE_REGULAR, tariff_pb2.TARIFF_TYPE_PROFILE_CHEAP), strict=True
        ):
            print(f"  {partner}: {await self._price(partner, key, type)}\n")

        say("10. AMPECO's own API as rpcs: a charge point is made, and a second one under its identity is refused")
        integration = integration_pb2.Integration(
            id="ampeco-demo",
            type=integration_pb2.INTEGRATION_TYPE_AMPECO,
            enabled=True,
            ampeco=ampeco_connection_pb2.AmpecoConnection(base_url=ampeco_url, api_token=API_KEY),
        )
        await self._call(
            self._integrations.CreateIntegration, integration_pb2.CreateIntegrationRequest(integration=integration)
        )
        charge_point = charge_point_pb2.CreateChargePointRequest(
            integration_id="ampeco-demo",
            charge_point=charge_point_pb2.ChargePoint(
                name="Depot, bay 17",
                type="private",
                status="enabled",
                network_type="ethernet",
                network=charge_point_pb2.ChargePointNetwork(id="CP-17", protocol="ocpp 1.6"),
            ),
        )
        for _ in range(2):
            await self._call(self._charge_points.CreateChargePoint, charge_point)

    async def roam(self, ocpi_url: str) -> None:
        say(
            "11. An OCPI party gave us its first token: the handshake, in which both sides exchange tokens of their own"
        )
        integration = integration_pb2.Integration(
            id="ocpi-demo",
            type=integration_pb2.INTEGRATION_TYPE_OCPI,
            enabled=True,
            parties=[party_pb2.PartyKey(country_code="BE", party_id="BEC")],
            models=integration_pb2.IntegrationModels(
                push_location=True, push_tariff=True, pull_location=True, pull_tariff=True
            ),
            ocpi=ocpi_connection_pb2.OcpiConnection(
                endpoint_url=f"{ocpi_url}/ocpi/versions",
                initial_token=API_KEY,
                initial_role=ocpi_connection_pb2.INTERFACE_ROLE_SENDER,
            ),
        )
        await self._call(
            self._integrations.CreateIntegration, integration_pb2.CreateIntegrationRequest(integration=integration)
        )
        start = registration_pb2.RegisterIntegrationRequest(integration_id="ocpi-demo")
        run = await self._registration.RegisterIntegration(start, metadata=self._credential, timeout=30)
        run = await self._runs.WaitRun(run_pb2.WaitRunRequest(id=run.id), metadata=self._credential, timeout=60)
        print(
            f"  run {run_pb2.RunState.Name(run.state).removeprefix('RUN_STATE_')}: {[each.name for each in run.steps]}"
        )

        say("12. It operates, too: its tariff and its location are pulled by themselves, and are read and priced here")
        listed = run_pb2.ListRunsRequest(integration_id="ocpi-demo", kind=run_pb2.RUN_KIND_SYNC)
        async with asyncio.timeout(60):
            while not (runs := (await self._runs.ListRuns(listed, metadata=self._credential, timeout=30)).runs):
                await asyncio.sleep(0.05)
        run = await self._runs.WaitRun(run_pb2.WaitRunRequest(id=runs[0].id), metadata=self._credential, timeout=60)
        for step in run.steps:
            print(f"  {step.name}: {step.read_count} read, {step.created_count} new")
        await self._call(self._tariffs.ListTariffs, tariff_pb2.ListTariffsRequest(integration_id="ocpi-demo"))

        say("13. A rule shows it the location: its tariff is pushed first, and a status then travels alone, as a PATCH")
        key = location_pb2.LocationKey(country_code="BE", party_id="BEC", id="LOC1")
        rule = publication_pb2.PublicationRule(
            integration_id="ocpi-demo",
            id="ghent",
            connectors=publication_pb2.ConnectorSelection(locations=[key]),
            effect=publication_pb2.PUBLICATION_EFFECT_VISIBLE,
        )
        await self._call(
            self._publication.CreatePublicationRule, publication_pb2.CreatePublicationRuleRequest(rule=rule)
        )
        pushed = delivery_pb2.ListDeliveriesRequest(integration_id="ocpi-demo")
        await self._delivered(pushed)
        status = location_pb2.EvseStatusReport(
            location=key,
            evse_uid="3256",
            status=location_pb2.EVSE_STATUS_CHARGING,
        )
        await self._call(self._locations.ReportEvseStatus, location_pb2.ReportEvseStatusRequest(reports=[status]))
        await self._delivered(pushed)

    async def _price(
        self, partner: str, location: location_pb2.LocationKey, type: tariff_pb2.TariffType.ValueType
    ) -> str:
        """20 kWh from half past nine in the evening on, and 40 minutes parked."""
        start = timestamp_pb2.Timestamp()
        start.FromJsonString("2030-06-03T19:30:00Z")
        options = pricing_pb2.PricingOptions(
            time_zone="Europe/Brussels",
            rounding=pricing_pb2.Rounding(level=pricing_pb2.ROUNDING_LEVEL_LINE, decimals=2),
        )
        request = pricing_pb2.QuotePriceRequest(
            partner_connector=pricing_pb2.PartnerConnector(
                integration_id=partner, location=location, evse_uid="3256", connector_id="1", type=type
            ),
            plan=pricing_pb2.SessionPlan(
                start_date_time=start, energy=Decimal(value="20"), power=Decimal(value="10"), parking_s=2400
            ),
            options=options,
        )
        quote = await self._pricing.QuotePrice(request, metadata=self._credential, timeout=30)
        return indent(table(quote, options.time_zone), "  ").lstrip()

    async def _view(self, partner: str, key: location_pb2.LocationKey) -> location_pb2.Location:
        request = publication_pb2.GetPartnerViewRequest(integration_id=partner, location=key)
        view: publication_pb2.PartnerView = await self._publication.GetPartnerView(
            request, metadata=self._credential, timeout=30
        )
        return view.location

    async def _upsert(self, company: company_pb2.Company) -> None:
        await self._call(self._companies.UpsertCompany, company_pb2.UpsertCompanyRequest(company=company))

    async def _call(self, method: Any, request: Message) -> None:
        name = type(request).__name__.removesuffix("Request")
        shown = type(request)()
        shown.CopyFrom(request)
        take_secrets(shown)
        print(f"  rpc  {name} {compact(MessageToDict(shown))}")
        try:
            answer = await method(request, metadata=self._credential, timeout=30)
            print(f"       OK {compact(MessageToDict(answer))}")
        except grpc.aio.AioRpcError as error:
            print(f"       {error.code().name} {reason(error)}: {error.details()}")
            for field, problem in violations(error):
                print(f"       {field}: {problem}")

    async def _delivered(self, request: Any = _OF_COMPANY) -> delivery_pb2.Delivery:
        """Waits for deliveries to come to rest and shows the first one."""
        async with asyncio.timeout(60):
            while True:
                page = await self._deliveries.ListDeliveries(request, metadata=self._credential, timeout=30)
                if page.deliveries and all(each.state in _DONE for each in page.deliveries):
                    break
                await asyncio.sleep(0.05)
        delivery: delivery_pb2.Delivery = page.deliveries[0]
        state = delivery_pb2.DeliveryState.Name(delivery.state).removeprefix("DELIVERY_STATE_")
        version = delivery.peer_object.acknowledged_version
        known = f"the partner's acknowledged version is {version}" if version else "the partner has what it is to see"
        print(f"  delivery {state}; {delivery.description or known}")
        return delivery


def show_exchange(exchange: Exchange) -> None:
    """Without the tokens that OCPI's credentials carry."""
    sent, body = (
        shortened(re.sub('("token":")[^"]+', r"\1***", each.decode(errors="replace")))
        for each in (exchange.request_body, exchange.response_body)
    )
    print(f"  HTTP {exchange.method} {exchange.url} {sent}")
    print(f"       {exchange.status} {body}" if exchange.status else "       no answer: the connection was cut")


def reason(error: grpc.aio.AioRpcError) -> str:
    """The reason of an error's ErrorInfo."""
    return next((str(info.reason) for info in details(error, error_details_pb2.ErrorInfo)), "")


def violations(error: grpc.aio.AioRpcError) -> list[tuple[str, str]]:
    """Field and problem of each violation that an error names."""
    found = details(error, error_details_pb2.BadRequest)
    return [(each.field, each.description) for bad in found for each in bad.field_violations]


def details(error: grpc.aio.AioRpcError, kind: type[M]) -> Iterator[M]:
    """Those of one kind in an error's trailing metadata."""
    raw = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    for detail in status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode()).details:
        if detail.Unpack(made := kind()):
            yield made


def say(text: str) -> None:
    print(f"\n{text}")


def shortened(text: str) -> str:
    """One line that can be read."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}…"


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
