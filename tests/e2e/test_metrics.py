"""The dashboard and alerts of deploy/ against what a server exports: an alert on a missing name never fires."""

import asyncio
import base64
import json
import os
import re
import signal
from collections.abc import Iterator

import aiohttp
import grpc
import promql_parser as promql
import pytest
import yaml
from evbridge.v1.company_pb2 import GetCompanyRequest, ListCompaniesRequest, UpsertCompanyRequest
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from evbridge.v1.party_pb2 import CreatePartyRequest, PartyKey
from evbridge.v1.registration_pb2 import IssueInitialTokenRequest
from evbridge.v1.run_pb2 import RUN_KIND_DIAGNOSE, StartRunRequest, WaitRunRequest
from evbridge.v1.watch_pb2 import WatchCompaniesRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from service.partners.chargeprice.simulator import Simulator
from service.storage.api_key import api_key_create
from service.storage.keyring import Keyring
from service.storage.pool import Database
from tests.e2e.pages import ROOT, headings
from tests.e2e.test_processes import children
from tests.front_door import (
    Client,
    Serving,
    a_company,
    a_party,
    an_integration,
    an_integration_of,
    collecting,
    environment,
    fails,
    serving,
    settled,
)

DEPLOY = ROOT / "deploy"
_SERIES = {"gauge": [""], "sum": [""], "histogram": ["_bucket", "_count", "_sum"]}
_FROM_RESOURCE = {"instance", "job"}
PARTY = PartyKey(country_code="DE", party_id="ABC")
Exported = dict[str, set[str]]
"""What Prometheus calls a series -> its labels."""


def exported_by(bodies: list[bytes]) -> Exported:
    found: Exported = {}
    for body in bodies:
        path, _, content = body.partition(b"\n")
        if path == b"/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(content).resource_metrics:
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    for name, labels in _series(metric):
                        found.setdefault(name, set(_FROM_RESOURCE)).update(labels)
    return found


def _series(metric: Metric) -> Iterator[tuple[str, set[str]]]:
    """As Prometheus takes OTLP in: dots become underscores; units, and the total of a counter, are suffixes."""
    kind = metric.WhichOneof("data")
    points = getattr(metric, kind).data_points
    labels = {attribute.key.replace(".", "_") for point in points for attribute in point.attributes}
    name = metric.name.replace(".", "_") + {"s": "_seconds"}.get(metric.unit, "")
    name += "_total" if kind == "sum" and metric.sum.is_monotonic else ""
    for suffix in _SERIES[kind]:
        if points:
            yield name + suffix, labels | ({"le"} if suffix == "_bucket" else set())


@pytest.fixture
async def exported(database_url: str, database: Database, keyring: Keyring, simulator: Simulator) -> Exported:
    """What a server exports that was called, delivered, ran, was watched and lost a process."""
    async with database.transaction() as conn:
        key = (await api_key_create(conn, keyring, "acme", "", 3)).reveal()
    async with collecting() as (collector, bodies):
        environ = environment(database_url) | {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector}/v1/metrics",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
        }
        async with serving(environ, "--workers", "2") as server:
            await _used(server, key, simulator)
            for name in ("rpc_server_call", "http_client_request", "http_server_request"):
                await _until(bodies, f"{name}_duration_seconds_count")
            # One process ends: what it did is told before.
            await _until(bodies, "evbridge_delivery_attempts_total", "evbridge_runs_total")
            await _until(bodies, "evbridge_watch_oldest_transaction_age_seconds")
            os.kill(min(children(server.process.pid)), signal.SIGKILL)
            # The process that takes its place measures first of all what waits.
            await _until(
                bodies, "evbridge_process_restarts_total", "evbridge_process_silent", "evbridge_integration_status"
            )
    return exported_by(bodies)


async def _until(bodies: list[bytes], *names: str) -> None:
    async with asyncio.timeout(60):
        while not {*names} <= exported_by(bodies).keys():
            await asyncio.sleep(0.1)


async def _used(server: Serving, key: str, simulator: Simulator) -> None:
    company = a_company()
    async with grpc.aio.insecure_channel(server.address) as channel:
        client = Client(channel, key)
        watch = client.watch.WatchCompanies(WatchCompaniesRequest(snapshot=True))
        integration = await client.integrations.CreateIntegration(
            CreateIntegrationRequest(integration=an_integration(simulator.url))
        )
        await client.companies.UpsertCompany(UpsertCompanyRequest(company=company))
        await client.companies.ListCompanies(ListCompaniesRequest())
        await fails(client.companies.GetCompany(GetCompanyRequest(id="00000000-0000-4000-8000-000000000000")))
        await settled(client, company.id)
        run = await client.runs.StartRun(StartRunRequest(integration_id=integration.id, kind=RUN_KIND_DIAGNOSE))
        await client.runs.WaitRun(WaitRunRequest(id=run.id))
        async for _ in watch:
            break
        await client.parties.CreateParty(CreatePartyRequest(party=a_party()))
        party = await client.integrations.CreateIntegration(
            CreateIntegrationRequest(integration=an_integration_of("ocpi", parties=[PARTY]))
        )
        first = await client.registration.IssueInitialToken(IssueInitialTokenRequest(integration_id=party.id))
    credential = base64.b64encode(first.token.encode()).decode()
    headers = {"Authorization": f"Token {credential}"}
    async with aiohttp.ClientSession() as http, http.get(first.versions_url, headers=headers) as answer:
        assert answer.status == 200


def _alerts() -> dict[str, str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


def _panels() -> dict[str, str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    named = {panel["title"]: panel.get("targets", ()) for panel in dashboard["panels"]}
    return {
        f"{title} {target['refId']}": re.sub(
            r"\$__rate_interval", "5m", re.sub(r"\$(tenant|integration)", ".*", target["expr"])
        )
        for title, targets in named.items()
        for target in targets
    }


def _unknown(expressions: dict[str, str], exported: Exported) -> Iterator[str]:
    """What an expression names that no server exports. Raises ValueError when it is not PromQL."""
    for where, expression in expressions.items():
        for name, labels in _selectors(promql.parse(expression)):
            if name not in exported:
                yield f"{where}: {name}"
            elif missing := labels - exported[name]:
                yield f"{where}: {name} has no {', '.join(sorted(missing))}"


def _selectors(expression: object, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[str, set[str]]]:
    """Each series that is read: its name, and the labels by which it is selected, grouped or joined."""
    if isinstance(expression, promql.VectorSelector):
        yield expression.name, {each.name for each in expression.matchers.matchers} | set(grouped)
    elif isinstance(expression, promql.AggregateExpr):
        labels = expression.modifier.labels if expression.modifier else ()
        yield from _selectors(expression.expr, frozenset(labels))
    elif isinstance(expression, promql.BinaryExpr):
        matching = expression.modifier.matching if expression.modifier else None
        joined = grouped | frozenset(matching.labels if matching else ())
        yield from _selectors(expression.lhs, joined)
        yield from _selectors(expression.rhs, joined)
    elif isinstance(expression, promql.Call):
        for each in expression.args:
            yield from _selectors(each, grouped)
    elif isinstance(expression, promql.MatrixSelector):
        yield from _selectors(expression.vector_selector, grouped)
    elif isinstance(expression, promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr):
        yield from _selectors(expression.expr, grouped)


async def test_alerts_and_dashboard_name_what_a_server_exports(exported: Exported) -> None:
    read = {name for each in (*_alerts().values(), *_panels().values()) for name, _ in _selectors(promql.parse(each))}
    assert len(read) > 12
    assert not list(_unknown(_alerts(), exported))
    assert not list(_unknown(_panels(), exported))
    wrong = {"name": "sum(evbridge_runs)", "label": 'sum by (code) (evbridge_runs_total{evbridge_run_kind="x"})'}
    assert len(list(_unknown(wrong, exported))) == 2
    # What a server exports about itself is shown: nothing is measured for nobody.
    ours = {name for name in exported if name.startswith("evbridge_") and not name.endswith("_pending_seconds")}
    assert ours <= read, ours - read


def test_each_alert_has_a_section_in_the_runbook() -> None:
    sections = {heading for heading in headings("docs/runbook.md") if heading.startswith("evbridge")}
    assert sections == {name.lower() for name in _alerts()}


def test_an_alert_says_whether_it_wakes_somebody() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}
    assert all(rule["annotations"]["summary"] for rule in rules)
