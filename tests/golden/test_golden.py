"""What deliveries send to a partner, against files written by hand: `chargeprice/<case>.json`.

`calls` are made one after another over gRPC, each once the delivery before has come to rest; `exchanges` are all that
the partner sees, with the answers it gives; `delivery` is how it ends.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1 import company_pb2
from evbridge.v1.delivery_pb2 import DeliveryState
from evbridge.v1.integration_pb2 import CreateIntegrationRequest
from google.protobuf.json_format import ParseDict

from tests.conftest import Tenant
from tests.front_door import an_integration, settled
from tests.golden.recorder import Recorder

CASES = sorted(Path(__file__).parent.glob("chargeprice/*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_the_partner_sees_exactly_this(path: Path, tenant: Tenant) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    async with Recorder(case["exchanges"]) as recorder:
        integration = an_integration(recorder.url, "golden-key")
        await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
        for call in case["calls"]:
            ((method, content),) = call.items()
            request = ParseDict(content, getattr(company_pb2, f"{method}Request")())
            await getattr(tenant.writer.companies, method)(request)
            object_id = request.id if method == "DeleteCompany" else request.company.id
            delivery = await settled(tenant.reader, object_id)
        assert recorder.received == [exchange["request"] for exchange in case["exchanges"]]
        assert DeliveryState.Name(delivery.state) == f"DELIVERY_STATE_{case['delivery']}"
