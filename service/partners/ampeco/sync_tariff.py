"""Imports tariffs, and finds out which of them each tariff group stands for."""

import asyncio

from evbridge.partner.ampeco.v3.tariff_group_pb2 import ListTariffGroupsRequest
from evbridge.partner.ampeco.v3.tariff_pb2 import ListTariffsRequest
from evbridge.partner.ampeco.v3.tariff_pb2 import Tariff as AmpecoTariff
from evbridge.v1.tariff_pb2 import Tariff

from service.errors import InvalidArgument, TariffNotRepresentable
from service.partners.ampeco.lists import ListImport, batches
from service.partners.ampeco.mapping_tariff import billing_of, tariff_from
from service.resources.noun import Upsert
from service.resources.tariff import TARIFFS
from service.runs.importing import ImportStep
from service.storage.tariff import tariff_imported, tariffs_hold


class TariffImport(ListImport):
    async def all(self) -> dict[int, str]:
        """The id here of the tariff of each group, by AMPECO's ids. Raises what the channel raises."""
        step = self._begin("tariffs")
        shown: dict[int, AmpecoTariff] = {}
        async for page in self._pages(step, "TariffService/StreamTariffs", ListTariffsRequest()):
            shown |= page
        groups: dict[int, list[int]] = {}
        async for page in self._pages(None, "TariffGroupService/StreamTariffGroups", ListTariffGroupsRequest()):
            groups |= {id: [*group.tariff_ids] for id, group in page.items()}
        taken: set[int] = set()
        for batch in batches([*shown]):
            taken |= await self._take(step, {id: shown[id] for id in batch})
        if not step.unreadable:
            held = await tariff_imported(self._database, self._run.tenant_id, self._integration.id)
            self._suspect("tariffs", len(held - {*map(str, shown)}), len(held))
        await self._end(step)
        # AMPECO asks from the end, and none that is imported is for some users alone: the last one decides.
        return {id: self._id(ids[-1]) for id, ids in groups.items() if ids and ids[-1] in taken}

    async def _take(self, step: ImportStep, shown: dict[int, AmpecoTariff]) -> set[int]:
        """Stores what can be stored, and returns the ids of that."""
        upserts, billing = dict[int, Upsert[Tariff]](), billing_of(self._integration)
        for id, remote in (await self._not_ours(step, TARIFFS, shown, tariffs_hold)).items():
            await asyncio.sleep(0)
            try:
                tariff = self._named(tariff_from(remote, billing).message, id)
                upserts[id] = self._upsert(TARIFFS, step.repair(id, tariff), id)
            except (TariffNotRepresentable, InvalidArgument) as error:
                step.refuse(id, error, given=remote)
        return upserts.keys() - await self._store(step, upserts)
