"""Every call of the README's tour, made in its order as grpcurl would make it."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message_factory import GetMessageClass

from service.simulator.chargeprice import Simulator
from tests.conftest import Tenant

IN_AN_HOUR = "'$(date -u -d '+1 hour' +%FT%TZ)'"
README = Path(__file__).parents[2] / "README.md"
SIMULATED = "http://127.0.0.1:8080"


def commands() -> list[tuple[str, str]]:
    """(JSON, service/method) of each `evb -d`."""
    blocks = re.findall(r"^```\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.split(r"(?<!\\)\n(?=\S)", block) if line.startswith("evb -d")]
    found = []
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for line in lines:
        _, _, json, _, method = shlex.split(line.replace("\\\n", "").replace(IN_AN_HOUR, until), comments=True)
        found.append((json, method))
    return found


async def test_every_call_of_the_tour_works(tenant: Tenant, channel: grpc.aio.Channel, simulator: Simulator) -> None:
    metadata = (("authorization", f"Bearer {tenant.keys['admin']}"),)
    last_id = ""
    called = set()
    for json, path in commands():
        service, name = path.split("/")
        method = Default().FindServiceByName(service).methods_by_name[name]
        text = json.replace(SIMULATED, simulator.url).replace("demo-key", "partner-key")
        text = re.sub(r"<the \w+'s id>|<latest_run_id>", last_id, text)
        request = Parse(text, GetMessageClass(method.input_type)())
        call = channel.unary_unary(
            f"/{path}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        answer = MessageToDict(await call(request, metadata=metadata, timeout=20))
        (first, *_) = *answer.values(), None
        in_list = first[0].get("id", "") if isinstance(first, list) else ""
        last_id = answer.get("latestRunId") or answer.get("id") or in_list
        called.add(path.removeprefix("evbridge.v1."))
    assert {"CompanyService/UpsertCompany", "RunService/WaitRun", "PublicationService/GetPartnerView"} <= called
