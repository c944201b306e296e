"""What the README shows, done: the calls of its tour in their order, as grpcurl makes them; a partner in one file."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

from service import app
from service.simulator.chargeprice import Simulator
from tests.conftest import Tenant
from tests.front_door import settings
from tests.golden.recorder import Recorder
from tools.generate import PROTOS
from tools.third_party import THIRD_PARTY, lay_out

IN_AN_HOUR = "'$(date -u -d '+1 hour' +%FT%TZ)'"
README = Path(__file__).parents[2] / "README.md"
SIMULATED = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for of, text in found if of == language]


def commands(language: str = "") -> list[tuple[str, str]]:
    """(JSON, service/method) of each `evb -d`."""
    lines = [
        line for block in blocks(language) for line in re.split(r"(?<!\\)\n(?=\S)", block) if line.startswith("evb -d")
    ]
    found = []
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for line in lines:
        _, _, json, _, method = shlex.split(line.replace("\\\n", "").replace(IN_AN_HOUR, until), comments=True)
        found.append((json, method))
    return found


async def call(channel: grpc.aio.Channel, key: str, json: str, path: str) -> dict[str, Any]:
    service, name = path.split("/")
    method = Default().FindServiceByName(service).methods_by_name[name]
    request = Parse(json, GetMessageClass(method.input_type)())
    rpc = channel.unary_unary(
        f"/{path}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return MessageToDict(await rpc(request, metadata=(("authorization", f"Bearer {key}"),), timeout=20))


async def test_every_call_of_the_tour_works(tenant: Tenant, channel: grpc.aio.Channel, simulator: Simulator) -> None:
    last_id = ""
    called = set()
    for json, path in commands():
        text = json.replace(SIMULATED, simulator.url).replace("demo-key", "partner-key")
        text = re.sub(r"<the \w+'s id>|<latest_run_id>", last_id, text)
        answer = await call(channel, tenant.keys["admin"], text, path)
        (first, *_) = *answer.values(), None
        in_list = first[0].get("id", "") if isinstance(first, list) else ""
        last_id = answer.get("latestRunId") or answer.get("id") or in_list
        called.add(path.removeprefix("evbridge.v1."))
    assert {"CompanyService/UpsertCompany", "RunService/WaitRun", "PublicationService/GetPartnerView"} <= called


@pytest.fixture
def partner_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's contract where it says, and the two steps behind it: generated, and named in PARTNER_CONTRACTS."""
    (source,) = blocks("proto")
    where = re.compile(r"`protos/(evbridge/partner/\S+)`:.*?`\"(\S+)\"`", re.DOTALL)
    ((path, package),) = where.findall(README.read_text(encoding="utf-8"))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    lay_out()
    imports = (tmp_path, PROTOS, THIRD_PARTY, files("grpc_tools") / "_proto")
    assert protoc.main(["protoc", *(f"--proto_path={each}" for each in imports), f"--python_out={tmp_path}", path]) == 0
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(app, "PARTNER_CONTRACTS", (*app.PARTNER_CONTRACTS, package))


async def test_a_partner_is_added_with_one_file(partner_in_one_file: None, database_url: str) -> None:
    station = {"name": "Market", "isOccupied": False, "unknown": 1}
    exchange = {"request": {"headers": ["X-Api-Key"]}, "answer": {"status": 200, "body": station}}
    async with (
        Recorder([exchange]) as acme,
        app.evbridge(settings(database_url, first_key=True, delivery=False)) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        assert running.first_key is not None
        for json, path in commands("sh"):
            text = json.replace("https://api.acme.example", acme.url)
            answer = await call(channel, running.first_key.reveal(), text, path)
        assert answer == {"name": "Market", "isOccupied": False}
        assert acme.received == [
            {
                "method": "GET",
                "path": "/stations/S%201",
                "query": [],
                "headers": {"X-Api-Key": "acme-key"},
                "body": None,
            }
        ]
