"""What all imports from one AMPECO have in common: the run, whose objects they become, and how these are named."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from evbridge.options.v1.options_pb2 import ROLE_WRITER
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Location
from evbridge.v1.session_pb2 import Session
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import Origin

from service.domain.caller import Caller
from service.domain.keys import ObjectKey
from service.domain.origin import imported_id
from service.resources.noun import Upsert
from service.resources.objects import Owned
from service.runs.worker import Progress, Tools
from service.storage.connection import Connection
from service.storage.run import RunClaim, run_hold

M = TypeVar("M", Tariff, Location, Session)

CONTRACT = "/evbridge.partner.ampeco.v3"
PER_PAGE = 100


class Source:
    """One run, and the AMPECO that it reads. What is imported belongs to the integration's first party."""

    def __init__(self, tools: Tools, run: RunClaim, progress: Progress, integration: Integration) -> None:
        self._tools = tools
        self._database = tools.database
        self._channel = tools.channel
        self._run = run
        self._progress = progress
        self._integration = integration
        self._party = integration.parties[0]
        self._caller = Caller(run.tenant_id, run.key_id, ROLE_WRITER)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Connection]:
        """A transaction. Raises LeaseLost when the run is another worker's by now: what was read is old, then."""
        async with self._database.transaction() as conn:
            await run_hold(conn, self._run)
            yield conn

    def _id(self, id: object) -> str:
        """The id here of what has this one there."""
        return imported_id(self._integration.id, str(id))

    def _key(self, id: object) -> ObjectKey:
        return ObjectKey.of(self._party.country_code, self._party.party_id, self._id(id))

    def _named(self, imported: M, id: object) -> M:
        imported.country_code, imported.party_id = self._party.country_code, self._party.party_id
        imported.id = self._id(id)
        return imported

    def _upsert(self, owned: Owned[Any], imported: Any, id: object) -> Upsert[Any]:
        return Upsert(owned, imported, owned.noun, origin=self._origin(id))

    def _origin(self, id: object) -> Origin:
        return Origin(integration_id=self._integration.id, external_id=str(id))
