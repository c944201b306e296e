"""RUN_KIND_SYNC of AMPECO: brings what it holds here, as objects of ours with an origin."""

from evbridge.v1.integration_pb2 import INTEGRATION_STATUS_ACTIVE, INTEGRATION_STATUS_PENDING, Integration
from evbridge.v1.run_pb2 import RUN_STEP_STATE_FAILED

from service.errors import IntegrationHasNoParty, MassRemoval
from service.partners.ampeco.sync_location import LocationImport
from service.partners.ampeco.sync_session import SessionImport
from service.runs.worker import Progress, Tools
from service.storage.integration import integration_get, integration_status
from service.storage.pull import pull_later
from service.storage.run import RunClaim, run_hold


class AmpecoSync:
    """Imports the tariffs, locations and EVSEs of an AMPECO, and the sessions when `models` asks for them."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises IntegrationHasNoParty, MassRemoval, and what the channel raises."""
        payload = await integration_get(self._tools.database, run.tenant_id, run.integration_id)
        integration = Integration.FromString(payload)
        if not integration.parties:
            raise IntegrationHasNoParty("the integration speaks for no party", id=integration.id)
        sessions = SessionImport(self._tools, run, progress, integration)
        if run.sync_options.quarantined:
            await sessions.again()
            return
        if run.sync_options.notified:
            await sessions.notified()
            return
        removal = None
        if not await sessions.begun():
            try:
                await LocationImport(self._tools, run, progress, integration).all()
            except MassRemoval as error:  # which says nothing about sessions
                progress.close(RUN_STEP_STATE_FAILED, error.message)
                removal = error
            await self._reached(run, integration)
        if integration.models.pull_session:
            await sessions.all()
        if removal:
            raise removal

    async def _reached(self, run: RunClaim, integration: Integration) -> None:
        """From the first import on others begin by themselves, at intervals."""
        if integration.status == INTEGRATION_STATUS_PENDING:
            async with self._tools.database.transaction() as conn:
                await run_hold(conn, run)
                await integration_status(conn, run.tenant_id, run.integration_id, INTEGRATION_STATUS_ACTIVE, "")
                await pull_later(conn, run.tenant_id, run.integration_id)
