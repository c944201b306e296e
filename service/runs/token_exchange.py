"""Exchanges an integration's secret for an access token, so that the first call to the partner finds one."""

from service.runs.connecting import connecting
from service.runs.worker import Progress, Tools
from service.storage.run import RunClaim


class TokenExchange:
    """For the types that are asked with OAuth 2.0 client credentials."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises what OAuth.ask raises."""
        progress.count(0, 1, "asks for an access token")
        progress.begin("token")
        async with connecting(self._tools.database, run):
            target = await self._tools.targets.target(run.tenant_id, run.integration_id)
            await self._tools.oauth.exchange(target)
        progress.count(1, 1)
