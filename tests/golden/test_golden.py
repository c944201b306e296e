"""What deliveries send to a partner, against files written by hand: `<partner>/<case>.json`.

`calls` are made one after another over gRPC through the integration "golden", each once the deliveries before have come
to rest; `exchanges` are all that the partner sees, with the answers it gives; `delivery` is how they end.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.delivery_pb2 import DeliveryState
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from service.domain.integration import addresses, connection_of
from tests.conftest import Tenant
from tests.front_door import an_integration_of, at_rest
from tests.golden.recorder import Recorder, cases


@pytest.mark.parametrize("path", cases("calls"), ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_the_partner_sees_exactly_this(path: Path, tenant: Tenant) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    integration = an_integration_of(path.parent.name, "golden-key", id="golden")
    async with Recorder(case["exchanges"]) as recorder:
        connection = connection_of(integration)
        setattr(connection, next(iter(addresses(connection))), recorder.url)
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        for call in case["calls"]:
            ((name, content),) = call.items()
            stub, method = name.split(".")
            request = GetMessageClass(Default().FindMessageTypeByName(f"evbridge.v1.{method}Request"))
            await getattr(getattr(tenant.admin, stub), method)(ParseDict(content, request()))
            deliveries = await at_rest(tenant.reader, "golden")
        assert recorder.received == [exchange["request"] for exchange in case["exchanges"]]
        assert {DeliveryState.Name(each.state) for each in deliveries} == {f"DELIVERY_STATE_{case['delivery']}"}
