"""What README.md and docs/ show, done: their commands in their order, a partner in one file, a client."""

import asyncio
import json
import re
from importlib.resources import files
from pathlib import Path

import aiohttp
import grpc
import pytest
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_HTTP
from grpc_tools import protoc

from service import app
from service.partners.partner import Partner
from tests.conftest import Tenant
from tests.e2e.pages import ROOT, blocks, headings, links, pages, reader
from tests.front_door import settings
from tests.golden.recorder import Recorder
from tools.docs import refreshed
from tools.generate import PROTOS
from tools.third_party import THIRD_PARTY, lay_out

# In the order in which a newcomer reads them: each may build on the ones before.
TYPED = (
    "README.md",
    *("docs/first-ocpi-partner.md", "docs/pricing.md", "docs/chargeprice.md", "docs/tour.md", "docs/ampeco.md"),
    *("docs/errors.md", "docs/production.md", "docs/audit.md", "docs/security.md", "docs/deploy.md", "docs/runbook.md"),
)
PARTNER = "docs/partner-in-a-file.md"


@pytest.mark.timeout(300)
async def test_the_pages_can_be_typed_as_they_stand(database_url: str, tmp_path: Path) -> None:
    async with (
        app.evbridge(settings(database_url)) as running,
        reader(database_url, running.address, tmp_path) as person,
    ):
        for page in TYPED:
            await person.read(page, {"http://127.0.0.1:50052": running.ocpi_url})


@pytest.fixture
def partner_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's contract where it says, and the two steps behind it: generated, and named in PARTNERS."""
    ((_, source),) = blocks(PARTNER, "proto")
    where = re.compile(r"`protos/(evbridge/partner/\S+)`:.*?contract=\"(\S+)\"\)`", re.DOTALL)
    ((path, package),) = where.findall((ROOT / PARTNER).read_text(encoding="utf-8"))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    lay_out()
    imports = (tmp_path, PROTOS, THIRD_PARTY, files("grpc_tools") / "_proto")
    assert protoc.main(["protoc", *(f"--proto_path={each}" for each in imports), f"--python_out={tmp_path}", path]) == 0
    monkeypatch.syspath_prepend(tmp_path)
    acme = Partner("acme", INTEGRATION_TYPE_HTTP, contract=package)
    monkeypatch.setattr(app, "PARTNERS", (*app.PARTNERS, acme))


async def test_a_partner_is_added_with_one_file(partner_in_one_file: None, database_url: str, tmp_path: Path) -> None:
    station = {"name": "Market", "isOccupied": False, "unknown": 1}
    exchange = {"request": {"headers": ["X-Api-Key"]}, "answer": {"status": 200, "body": station}}
    async with (
        Recorder([exchange]) as acme,
        app.evbridge(settings(database_url, delivery=False)) as running,
        reader(database_url, running.address, tmp_path) as person,
    ):
        await person.prepare()
        answer = await person.read(PARTNER, {"https://api.acme.example": acme.url})
    assert json.loads(answer) == {"name": "Market", "isOccupied": False}
    assert acme.received == [
        {
            "method": "GET",
            "path": "/stations/S%201",
            "query": [],
            "headers": {"X-Api-Key": "acme-key"},
            "body": None,
        }
    ]
    simulator = app.PARTNERS[-1].simulator(api_key="acme-key")
    await simulator.start()
    try:
        async with aiohttp.ClientSession(simulator.url) as http:
            for key, status in (("acme-key", 404), ("another", 401)):
                async with http.get("/stations/S", headers={"X-Api-Key": key}) as seen:
                    assert seen.status == status
    finally:
        await simulator.stop()


async def test_the_python_client_reads_the_reason(
    tenant: Tenant, channel: grpc.aio.Channel, running: app.Evbridge, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, source),) = blocks("docs/clients.md", "python")
    names = {"key": tenant.keys["reader"]}
    await asyncio.to_thread(exec, source.replace("localhost:50051", running.address), names)
    assert capsys.readouterr().out == "StatusCode.NOT_FOUND RESOURCE_NOT_FOUND\n"


def test_no_command_stands_on_a_page_that_nobody_types() -> None:
    assert {page for page in pages() if blocks(page, "sh")} == {*TYPED, PARTNER}
    assert not [page for page in pages() if blocks(page, "bash", "shell", "console")]


def test_the_tables_say_what_the_code_says() -> None:
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        assert refreshed(text) == text, f"{page}: run `make gen`"


def test_every_link_leads_somewhere() -> None:
    for page in pages():
        for link in links(page):
            path, _, heading = link.partition("#")
            assert (ROOT / path).exists(), f"{page} links to {link}"
            assert not heading or heading in headings(path), f"{page} links to {link}"


def test_every_test_that_a_page_names_exists() -> None:
    for page in pages():
        for path, name in re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / page).read_text(encoding="utf-8")):
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{page} names {path}::{name}"


def test_the_readme_takes_five_minutes() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
