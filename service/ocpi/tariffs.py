"""OCPI's tariffs module: what a partner sees of ours, and what operators push to us. Source: OCPI 2.2.1, tariffs."""

from typing import Any

from evbridge.partner.ocpi.v2 import tariffs_pb2 as ocpi
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TARIFF
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO
from evbridge.v1.tariff_pb2 import Tariff

from service.bridge.edge import Reply
from service.ocpi.listener import OcpiRefused, Visit
from service.ocpi.modules import (
    caller_of,
    check_owner,
    document_in,
    done,
    enveloped,
    key_in,
    refusing,
    sender_of,
    shown,
)
from service.ocpi.pages import Documents, page
from service.resources.received_tariff import received_tariff, tariff_received, tariff_removed
from service.runs.worker import Tools


class TariffsSender:
    """evbridge.partner.ocpi.v2.TariffsSenderService, served: the partner's view."""

    def __init__(self, tools: Tools, documents: Documents) -> None:
        self._tools = tools
        self._documents = documents

    async def ListTariffs(self, request: ocpi.ListTariffsRequest, visit: Visit) -> Reply:
        return await page(self._tools, self._documents, OBJECT_KIND_TARIFF, Tariff, visit)


class TariffsReceiver:
    """evbridge.partner.ocpi.v2.TariffsReceiverService, served."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def GetReceivedTariff(self, request: ocpi.GetReceivedTariffRequest, visit: Visit) -> Reply:
        key = key_in(request, request.tariff_id, visit)
        with refusing():
            return await shown(await received_tariff(self._tools.database, visit.tenant_id, key))

    async def PutTariff(self, request: ocpi.PutTariffRequest, visit: Visit) -> Reply:
        return await self._receive(request, visit)

    async def PatchTariff(self, request: ocpi.PatchTariffRequest, visit: Visit) -> Reply:
        if visit.version != "2.1.1":
            raise OcpiRefused(2000, "a tariff is sent whole", status=405, headers={"Allow": "DELETE, GET, PUT"})
        return await self._receive(request, visit, patch=True)

    async def DeleteTariff(self, request: ocpi.DeleteTariffRequest, visit: Visit) -> Reply:
        key = key_in(request, request.tariff_id, visit)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing():
            await tariff_removed(self._tools.database, caller_of(visit), sender, key)
        return Reply(body=enveloped())

    async def _receive(self, request: Any, visit: Visit, *, patch: bool = False) -> Reply:
        key, document = key_in(request, request.tariff_id, visit), await document_in(visit)
        check_owner(document, key)
        sender = await sender_of(self._tools, visit, key, PARTY_ROLE_CPO)
        with refusing():
            receipt = await tariff_received(self._tools.database, caller_of(visit), sender, key, document, patch=patch)
        return done(receipt, key)
