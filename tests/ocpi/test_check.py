"""`evbridge ocpi check`: a party that keeps the rules passes, and each fault turns exactly its checks."""

import argparse
import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from evbridge.v1.cdr_pb2 import CreateCdrRequest
from evbridge.v1.invoice_reconciliation_pb2 import CreateInvoiceReconciliationRecordRequest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, UpdatePartyRequest
from evbridge.v1.session_pb2 import CreateSessionRequest
from evbridge.v1.token_pb2 import CreateTokenRequest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.app import Evbridge
from service.cli import ocpi as command
from service.partners.ocpi import diagnosis
from service.partners.ocpi.checks import CHECKS
from service.partners.ocpi.checks.modules import MODULES, UNKNOWN
from service.settings import Settings
from tests.charged import a_cdr, a_cdr_token, a_session
from tests.circle import until
from tests.conftest import Tenant
from tests.front_door import a_party, a_record, a_token
from tests.ocpi.door import VERSIONS, Ask, Partner, ask, partner, text
from tests.ocpi.party import LISTS, TOKEN, Party, Said, in_days
from tests.rpc.test_ocpi_received import companies
from tests.rpc.test_ocpi_shown import shown

__all__ = ["ask", "partner", "shown"]

SETTINGS = Settings(egress_allow_loopback=True, egress_allow_http=True)
ASKED = ("commands", "chargingprofiles")
"""What a receiver holds no objects of."""
FEW = ("locations", "tokens")
"""Enough of the modules to look at what all have."""
HTTP = "versions.https"
"""Is skipped on this machine."""


@dataclass
class Report:
    status: int
    findings: list[dict[str, str]]

    def of(self, *outcomes: str) -> set[str]:
        return {each["check"] for each in self.findings if each["outcome"] in outcomes}


Check = Callable[..., Any]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """What the command reports of a party."""

    async def checked(url: str, token: str = TOKEN, *more: str) -> Report:
        parser = argparse.ArgumentParser()
        command.arguments(parser)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            await command.run(SETTINGS, parser.parse_args(["check", url, "--token", token, "--json", *more]))
        said = capsys.readouterr().out
        assert token not in said
        return Report(int(ended.value.code or 0), json.loads(said) if said else [])

    return checked


@pytest.mark.parametrize("versions", [("2.1.1",), ("2.2.1",), ("2.3.0",), ("2.1.1", "2.2.1", "2.3.0")], ids="/".join)
async def test_a_sound_party_passes(check: Check, versions: tuple[str, ...]) -> None:
    async with Party(versions).listening() as party:
        report = await check(f"{party.url}/ocpi/versions")
    assert [each for each in report.findings if each["outcome"] in ("WARN", "FAIL")] == []
    later = {module for module, each in MODULES.items() if each.since > max(versions)}
    skipped = {each.id for each in CHECKS if each.id.partition(".")[0] in later}
    skipped |= {each.id for each in CHECKS if ".receiver-" in each.id} if versions == ("2.1.1",) else set()
    assert (report.status, report.of("SKIPPED")) == (0, {HTTP} | skipped)
    assert [each["check"] for each in report.findings] == [each.id for each in CHECKS]
    assert all(request.startswith("GET ") for request in party.requests)


@pytest.mark.parametrize("version", VERSIONS)
async def test_our_own_door_passes(
    check: Check,
    ask: Ask,
    shown: Partner,
    tenant: Tenant,
    running: Evbridge,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
) -> None:
    both = UpdatePartyRequest(party=a_party(roles=[PARTY_ROLE_CPO, PARTY_ROLE_EMSP]))
    await tenant.admin.parties.UpdateParty(both)
    await companies(running, tenant, PARTY_ROLE_EMSP)
    card = a_cdr_token(country_code="NL", party_id="TNM")
    for number in range(3):
        session = CreateSessionRequest(session=a_session(id=f"S{number}", location_id="L1", cdr_token=card))
        await tenant.writer.sessions.CreateSession(session)
        await tenant.writer.cdrs.CreateCdr(CreateCdrRequest(cdr=a_cdr(id=f"C{number}", cdr_token=card)))
        await tenant.writer.tokens.CreateToken(CreateTokenRequest(token=a_token()))
        record = CreateInvoiceReconciliationRecordRequest(record=a_record(id=f"R{number}"))
        await tenant.writer.invoice_reconciliation.CreateInvoiceReconciliationRecord(record)
    for path in ("cpo/2.3.0/sessions", "cpo/2.3.0/cdrs", "emsp/2.3.0/tokens", "2.3.0/invoicereconciliation"):

        async def listed(path: str = path) -> bool:
            page = await ask("GET", f"/ocpi/{path}?date_from=2020-01-01T00:00:00Z", shown.registered)
            return page.headers.get("X-Total-Count") == "3"

        await until(listed)
    for module in ("diagnosis", "checks.answers", "checks.evidence"):
        monkeypatch.setattr(f"service.partners.ocpi.{module}.VERSIONS", (version,))
    report = await check(f"{running.ocpi_url}/ocpi/versions", text(shown.registered))
    assert [each for each in report.findings if each["outcome"] in ("WARN", "FAIL")] == []
    # One tariff has no second page, who is no hub no clients, and an operator of 2.1.1 no tokens.
    named = {HTTP, "tariffs.link-filters", "tariffs.next-page"}
    named |= {each.id for each in CHECKS if each.id.startswith("hubclientinfo.") and ".receiver-" not in each.id}
    later = {module for module, each in MODULES.items() if each.since > version}
    later |= {"tokens"} if version == "2.1.1" else set()
    named |= {each.id for each in CHECKS if each.id.partition(".")[0] in later}
    named |= {each.id for each in CHECKS if ".receiver-" in each.id} if version == "2.1.1" else set()
    assert (report.status, report.of("SKIPPED")) == (0, named)


async def test_a_first_token_opens_no_lists(check: Check, shown: Partner, running: Evbridge) -> None:
    report = await check(f"{running.ocpi_url}/ocpi/versions", text(shown.initial))
    lists = {each.id for each in CHECKS if each.id.partition(".")[0] in MODULES}
    tokens = {f"{each}.receiver-token" for each in ("tokens", "hubclientinfo", "invoicereconciliation", *ASKED)}
    assert (report.status, report.of("WARN", "FAIL")) == (0, set())
    assert report.of("SKIPPED") == {HTTP, *lists} - tokens


async def test_what_was_not_asked_is_no_fault(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Party().listening() as party:
        monkeypatch.setattr(diagnosis, "MAX_REQUESTS", 14)
        report = await check(f"{party.url}/ocpi/versions")
        assert (len(party.requests), report.status, report.of("WARN", "FAIL")) == (14, 0, set())
        assert report.of("SKIPPED") > {"locations.beyond", *(each.id for each in CHECKS if each.id[:7] == "tariffs")}
        party.change = lambda said: setattr(said, "status", 429) if said.page else None
        party.requests.clear()
        report = await check(f"{party.url}/ocpi/versions")
        assert (len(party.requests), report.status, report.of("WARN", "FAIL")) == (11, 0, set())


async def test_who_has_nothing_to_get_need_not_ask_for_a_token(check: Check) -> None:
    async with Party(open=ASKED).listening() as party:
        report = await check(f"{party.url}/ocpi/versions")
    assert (report.status, report.of("SKIPPED")) == (0, {HTTP, *(f"{each}.receiver-token" for each in ASKED)})


async def test_nothing_listens_and_a_wrong_address_cannot_be_checked(check: Check) -> None:
    report = await check("http://127.0.0.1:1/ocpi/versions")
    assert (report.status, report.of("FAIL")) == (2, {"versions.answer"})
    for url in ("http://10.0.0.1/ocpi/versions", "ftp://example.com", "https://u:p@example.com"):
        assert (await check(url)).status == 2


async def test_whatever_a_party_answers_is_judged(check: Check, soak: Callable[[int], int]) -> None:
    async with Party(("2.2.1",), modules=FEW).listening() as party:

        @hypothesis_settings(
            max_examples=soak(300), suppress_health_check=list(HealthCheck), derandomize=True, deadline=None
        )
        @given(st.integers(0, 1 << 32))
        def judged(seed: int) -> None:
            random = Random(seed)

            def change(said: Said) -> None:
                if random.random() < 0.3:
                    said.body = broken(said.body, random)

            party.change = change
            future = asyncio.run_coroutine_threadsafe(check(f"{party.url}/ocpi/versions"), loop)
            assert future.result(60).status in (0, 1, 2)

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(judged)


def broken(body: Any, random: Random) -> Any:
    """A body in which one place holds something else."""
    body = json.loads(json.dumps(body))
    place = body
    while True:
        key = random.choice(sorted(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or random.random() < 0.3:
            break
        place = place[key]
    place[key] = random.choice([None, 7, -1.5, "", "\ud800", "x" * 300, [], {}, [[]], [None], {"a": 1}, True])
    return body


Change = Callable[[Said], None]


def on(path: str, **body: Any) -> Change:
    """Changes members of the envelope of answers whose path ends so."""

    def change(said: Said) -> None:
        if said.path.rstrip("/").endswith(path) and said.status == 200:
            said.body |= body

    return change


def every(**body: Any) -> Change:
    return lambda said: said.body.update(body)


def without(member: str) -> Change:
    return lambda said: said.body.pop(member, None)


def header(name: str, value: str | None, *, page: bool = False, first: bool = False) -> Change:
    """Sets or leaves out a header, of pages alone."""

    def change(said: Said) -> None:
        if (page and not said.page) or (first and said.query.get("limit") != "20"):
            return
        said.headers.pop(name, None)
        if value is not None:
            said.headers[name] = value

    return change


def versions(change: Callable[[list[dict[str, Any]]], Any]) -> Change:
    """Changes the list of versions."""

    def changed(said: Said) -> None:
        if said.path.rstrip("/").endswith("/versions") and said.status == 200:
            change(said.body["data"])

    return changed


def endpoints(change: Callable[[list[dict[str, Any]]], Any]) -> Change:
    """Changes the endpoints of every version."""

    def changed(said: Said) -> None:
        data = said.body.get("data")
        if isinstance(data, dict) and "endpoints" in data:
            change(data["endpoints"])

    return changed


def details(**members: Any) -> Change:
    """Changes members of the details of every version."""

    def changed(said: Said) -> None:
        data = said.body.get("data")
        if isinstance(data, dict) and "endpoints" in data:
            data.update(members)

    return changed


def items(module: str, change: Callable[[list[dict[str, Any]]], Any]) -> Change:
    """Changes the objects of every page of a module."""

    def changed(said: Said) -> None:
        if said.page == module:
            change(said.body["data"])

    return changed


def item(module: str, **members: Any) -> Change:
    """Changes members of the first object of every page that has it."""
    return items(module, lambda page: [each.update(members) for each in page if each[LISTS[module]].endswith("00")])


def http(status: int, path: str = "", *, to: int | None = None) -> Change:
    """Answers of an HTTP status, or at a path, get another one, and no envelope of success."""

    def change(said: Said) -> None:
        if (path and said.path.endswith(path)) or (not path and said.status == status):
            said.status = to or status
            said.body |= {"status_code": 2000 if said.status >= 300 else 1000}

    return change


def bare(said: Said) -> None:
    if said.status >= 400:
        said.body = b"<html>404</html>"


def empty_link(said: Said) -> None:
    if said.page and "Link" not in said.headers:
        said.headers["Link"] = f'<http://127.0.0.1{said.path}>; rel="next"'


def link(change: Callable[[str], str]) -> Change:
    def changed(said: Said) -> None:
        if "Link" in said.headers:
            said.headers["Link"] = change(said.headers["Link"])

    return changed


def lost_filters(said: Said) -> None:
    if "Link" in said.headers:
        kept = [each for each in said.headers["Link"].split("&") if "date_from" not in each]
        said.headers["Link"] = said.headers["Link"].partition("?")[0] + "?" + "&".join(["a=b", *kept[1:]])


def beyond_is_404(said: Said) -> None:
    if said.page and int(said.query.get("offset", "0")) > 1000:
        said.status, said.body["status_code"] = 404, 2000


def second_page_again(said: Said) -> None:
    if said.query.get("offset") == "2":
        said.body["data"] = [*said.body["data"][:1], said.body["data"][0] | {"id": "l00"}]


def newest_first(said: Said) -> None:
    if said.page and said.query.get("limit") == "2" and "offset" not in said.query:
        said.body["data"].reverse()


def total_of_the_page(said: Said) -> None:
    if said.page:
        said.headers["X-Total-Count"] = str(len(said.body["data"]))


def limit_of_the_request(said: Said) -> None:
    if said.page and "limit" in said.query:
        said.headers["X-Limit"] = said.query["limit"]


def new_plugs(page: list[dict[str, Any]]) -> None:
    for each in page:
        each["evses"][0]["connectors"][0]["standard"] = "NEMA_99"


def offset_times(said: Said) -> None:
    if said.page and said.body["data"]:
        said.body["data"][0]["last_updated"] = "2026-03-01T08:00:00+01:00"


def another_location(said: Said) -> None:
    if said.path.endswith("l00"):
        said.body["data"]["id"] = "x"


def received_nothing(said: Said) -> None:
    if "/ZZ/ZZZ" in said.path and said.status == 404:
        said.status, said.body["status_code"] = 200, 1000


def no_pages(said: Said) -> None:
    if said.page:
        said.status, said.body["status_code"] = 500, 3000


def ids_in_two_cases(party: Party) -> None:
    for module, held in party.objects.items():
        held[1][LISTS[module]] = held[0][LISTS[module]].upper()


def future_objects(party: Party) -> None:
    for held in party.objects.values():
        held[-1]["last_updated"] = in_days(2)


@dataclass
class Fault:
    """`checks` are those that do not pass any more; those of all modules are named once: "*.link"."""

    checks: str
    change: Change = lambda said: None
    party: Mapping[str, Any] = field(default_factory=dict)
    held: Callable[[Party], Any] = lambda party: None

    @property
    def names(self) -> set[str]:
        named = {check.replace("*", module) for check in self.checks.split() for module in MODULES}
        return named & {check.id for check in CHECKS}


FAULTS = {
    "status code of failure": Fault("versions.answer", on("/versions", status_code=3000)),
    "HTTP 500": Fault("versions.answer", http(500, "/versions", to=500)),
    "a status code that is a text": Fault("versions.answer", on("/versions", status_code="1000")),
    "no timestamp": Fault("answers.envelope errors.envelope", without("timestamp")),
    "a time with an offset": Fault("answers.timestamp", every(timestamp="2026-01-01T00:00:00+00:00")),
    "a clock that is wrong": Fault("answers.clock", every(timestamp="2026-01-01T00:00:00")),
    "a version twice": Fault("versions.list", versions(lambda all: all.append(all[0]))),
    "only an old version": Fault("versions.common", versions(lambda all: all[0].update(version="2.0"))),
    "text, not JSON": Fault("answers.content-type", header("Content-Type", "text/plain")),
    "no request id": Fault("answers.request-id", header("X-Request-ID", None)),
    "no correlation id": Fault("answers.correlation-id", header("X-Correlation-ID", None)),
    "bare errors": Fault("errors.envelope", bare),
    "errors with success inside": Fault("errors.envelope", lambda said: said.body.update(status_code=1000)),
    "unknown paths are forbidden": Fault("errors.not-found *.no-object *.receiver-no-object", http(404, to=403)),
    "a stranger is forbidden": Fault("token.missing token.wrong *.token *.receiver-token", http(401, to=403)),
    "anybody reads versions": Fault("token.missing token.wrong", party={"open": ("versions",)}),
    "anybody reads locations": Fault("locations.token locations.receiver-token", party={"open": ("locations",)}),
    "plain tokens only": Fault("token.form", party={"encoded": False}),
    "one case of the scheme": Fault("token.scheme", party={"scheme": ("Token",)}),
    "one form of a URL": Fault("versions.slash *.slash", party={"strict_slash": True}),
    "no roles": Fault(
        "details.roles details.duplicates", endpoints(lambda all: [each.pop("role", None) for each in all])
    ),
    "a module twice": Fault("details.duplicates", endpoints(lambda all: all.append(all[3]))),
    "no credentials": Fault("details.credentials", endpoints(lambda all: all.pop(0))),
    "a relative URL": Fault("details.endpoints", endpoints(lambda all: all[3].update(url="/ocpi/2.2.1/tokens"))),
    "another host": Fault(
        "details.hosts versions.https",
        endpoints(
            lambda all: all.append({"identifier": "own", "role": "SENDER", "url": "http://elsewhere.example.com"})
        ),
    ),
    "details of another version": Fault("details.answer", details(version="2.2")),
    "no details": Fault("details.answer", details(endpoints=None)),
    "no total": Fault("*.total", header("X-Total-Count", None, page=True)),
    "the total is that of the page": Fault("*.total *.link", total_of_the_page),
    "no limit of the server": Fault("*.x-limit", header("X-Limit", None, page=True)),
    "a limit that pages exceed": Fault("*.x-limit", header("X-Limit", "1", page=True)),
    "a limit that is that of the request": Fault("*.x-limit", limit_of_the_request),
    "limit is ignored": Fault("*.limit", party={"ignored": ("limit",)}),
    "offset is ignored": Fault("*.beyond *.link *.next-page", party={"ignored": ("offset",)}),
    "date_from is ignored": Fault("*.date-from", party={"ignored": ("date_from",)}),
    "date_to is ignored": Fault("*.date-to", party={"ignored": ("date_to",)}),
    "no link": Fault("*.link", header("Link", None)),
    "a link behind the last page": Fault("*.link", empty_link),
    "a relative link": Fault("*.link", link(lambda text: "<" + text.partition("127.0.0.1")[2].partition("/")[2])),
    "a link to elsewhere": Fault("*.link", link(lambda text: text.replace("127.0.0.1", "localhost"))),
    "a link without its filters": Fault("*.link-filters", lost_filters),
    "a page repeats": Fault("locations.next-page", second_page_again),
    "no stable order": Fault("*.stable", newest_first),
    "404 for no more objects": Fault("*.beyond", beyond_is_404),
    "a location without an address": Fault("locations.objects", item("locations", address=None)),
    "an unknown connector": Fault("locations.objects", items("locations", new_plugs)),
    "a tariff without a currency": Fault("tariffs.objects", item("tariffs", currency=None)),
    "a session without a currency": Fault("sessions.objects", item("sessions", currency=None)),
    "a CDR without its cost": Fault("cdrs.objects", item("cdrs", total_cost=None)),
    "a token without a contract": Fault("tokens.objects", item("tokens", contract_id=None)),
    "a client of a hub in no role": Fault("hubclientinfo.objects hubclientinfo.ids", item("hubclientinfo", role=None)),
    "an invoice without its id": Fault("invoicereconciliation.objects", item("invoicereconciliation", invoice_id=None)),
    "an id in two cases": Fault("*.ids", held=ids_in_two_cases),
    "last_updated with an offset": Fault("*.last-updated", offset_times),
    "last_updated in the future": Fault("*.last-updated", held=future_objects),
    "no single location": Fault("locations.object", http(404, "l00", to=404)),
    "another location": Fault("locations.object", another_location),
    "an unknown id is a success": Fault("locations.no-object", http(404, f"locations/{UNKNOWN}", to=200)),
    "what a receiver does not have is a success": Fault("*.receiver-no-object", received_nothing),
    "compressed as nobody asked": Fault("versions.answer", header("Content-Encoding", "br")),
    "no pages": Fault("*.page", no_pages),
    "a page that is no list": Fault("tariffs.page", on("/tariffs", data={})),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_turns_its_checks_and_no_other(check: Check, name: str) -> None:
    fault = FAULTS[name]
    modules = [each for each in LISTS if "*" in fault.checks or each in (*FEW, fault.checks.partition(".")[0])]
    sound = Party(("2.3.0",), change=fault.change, modules=modules, **fault.party)
    fault.held(sound)
    async with sound.listening() as party:
        report = await check(f"{party.url}/ocpi/versions")
    found = {each["check"]: (each["outcome"], each["seen"]) for each in report.findings if each["advice"]}
    assert found.keys() == fault.names, found
    assert report.status == (2 if "versions.answer" in found else int(bool(report.of("FAIL"))))


def test_every_check_has_a_fault() -> None:
    tested = {name for fault in FAULTS.values() for name in fault.names}
    assert {check.id for check in CHECKS} - tested == set()
