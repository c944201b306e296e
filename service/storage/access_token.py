"""Access tokens, one for an integration: what its secret was exchanged for, sealed, until it ends."""

from datetime import timedelta

from service.domain.target import AccessToken, Target
from service.storage.connection import Connection
from service.storage.keyring import Keyring, SealBroken, associated
from service.storage.pool import Database
from service.storage.statements import Statements

sql = Statements.beside(__file__)


class AccessTokens:
    """The bridge's `Tokens`. A token that does not open is none: the next one takes its place."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def get(self, target: Target) -> AccessToken | None:
        row = await self._database.row(sql.access_token_get, *_key(target))
        if row is None:
            return None
        try:
            return AccessToken(self._keyring.open(row["sealed"], _associated(target, row["base_url"])), row["base_url"])
        except SealBroken:
            return None

    async def keep(self, target: Target, token: AccessToken, *, age_s: float = 0.0) -> None:
        sealed = self._keyring.seal(token.value, _associated(target, token.base_url))
        lifetime = None if token.lifetime_s is None else timedelta(seconds=token.lifetime_s)
        times = (lifetime, timedelta(seconds=age_s))
        await self._database.run(sql.access_token_keep, *_key(target), token.base_url, sealed, *times)

    async def forget(self, target: Target) -> None:
        await access_token_forget(self._database, target.tenant_id, target.integration_id)


async def access_token_forget(on: Connection | Database, tenant_id: str, integration_id: str) -> None:
    await on.run(sql.access_token_forget, tenant_id, integration_id)


def _key(target: Target) -> tuple[str, str, str]:
    assert target.grant is not None  # noqa: S101
    return target.tenant_id, target.integration_id, target.grant.version


def _associated(target: Target, base_url: str) -> bytes:
    """Bound to where it goes, too."""
    return associated(target.tenant_id, f"integration/{target.integration_id}", "access_token", base_url)
