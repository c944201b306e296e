"""The database of the settings, and the keyring of its secrets: found, migrated, opened."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from service.errors import DatabaseUnavailable
from service.settings import SettingError, Settings
from service.storage.embedded import EmbeddedPostgres
from service.storage.keyring import Keyring
from service.storage.migrations import migrate, pending
from service.storage.pool import Database

log = logging.getLogger(__name__)


def embedded(settings: Settings, *, brief: bool = False) -> EmbeddedPostgres:
    """Raises SettingError where the settings name another server."""
    if settings.database_url:
        raise SettingError("EVBRIDGE_DATABASE_URL names a server, which has tools of its own for this")
    return EmbeddedPostgres((settings.data_dir / "postgres").absolute(), brief=brief)


@asynccontextmanager
async def database_url(settings: Settings, *, brief: bool = False) -> AsyncIterator[str]:
    """The named database, or the embedded one for as long as it is entered, which is `brief` for a command."""
    if settings.database_url:
        yield settings.database_url
        return
    server = embedded(settings, brief=brief)
    try:
        yield await server.start()
    finally:
        await server.stop()


def keys_file(settings: Settings) -> Path | None:
    """Where the secrets keys are; None when they stand in the settings."""
    if settings.secrets_keys:
        return None
    return Path(settings.secrets_keys_file or settings.data_dir / "secrets.keys")


def keyring(settings: Settings) -> Keyring:
    """From the settings; beside the embedded database a key file is made. Raises SettingError when there is none."""
    path = keys_file(settings)
    if path is None:
        return Keyring.parse(settings.secrets_keys)
    if settings.secrets_keys_file:
        return Keyring.load(path)
    if settings.database_url:
        raise SettingError("with EVBRIDGE_DATABASE_URL, set EVBRIDGE_SECRETS_KEYS_FILE or EVBRIDGE_SECRETS_KEYS too")
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Keyring.load(path) if path.exists() else Keyring.create(path)


@contextmanager
def reaching() -> Iterator[None]:
    """Raises SettingError when a URL is none, DatabaseUnavailable when nothing answers there."""
    try:
        yield
    except SettingError:
        raise
    except ValueError:
        raise SettingError("EVBRIDGE_DATABASE_URL or EVBRIDGE_DATABASE_DIRECT_URL is no PostgreSQL URL") from None
    except OSError as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error.strerror or 'no answer'}") from None


@asynccontextmanager
async def migrated_url(settings: Settings, *, brief: bool = False) -> AsyncIterator[str]:
    """The database's URL, once its schema is current.

    Raises SettingError when it is not and may not be made so, or when the URL is none; DatabaseUnavailable.
    """
    async with database_url(settings, brief=brief) as url:
        with reaching():
            names = await (migrate if settings.migrate else pending)(settings.database_direct_url or url)
        if names and not settings.migrate:
            raise SettingError(f"{len(names)} migrations are pending: run `evbridge migrate` first")
        if names:
            log.info("migrated", extra={"migrations": len(names), "first": names[0], "last": names[-1]})
        yield url


@asynccontextmanager
async def opened(settings: Settings, url: str, *, name: str = "evbridge", size: int = 0) -> AsyncIterator[Database]:
    """A pool. Few calls ever wait for its connections (`service.rpc.admission`): those wait as long as a statement may
    hold one.
    """
    database = Database(
        url,
        size=size or settings.database_pool_size,
        pgbouncer=settings.pgbouncer,
        application_name=name,
        acquire_timeout_s=5.0,
    )
    await database.open()
    try:
        yield database
    finally:
        await database.close()
