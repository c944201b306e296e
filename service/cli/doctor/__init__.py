"""`evbridge doctor`."""

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from service.cli.common import print_findings
from service.cli.doctor import configuration, database
from service.cli.doctor.check import Seen
from service.domain.verdict import Outcome
from service.errors import EvbridgeError
from service.settings import SettingError, Settings
from service.storage.connection import refusal
from service.storage.embedded import EmbeddedPostgresError
from service.storage.keyring import Keyring, KeyringInvalid
from service.storage.migrations import MigrationError, pending
from service.storage.opening import database_url, embedded, keyring, keys_file, opened, reaching


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.epilog = "Exit status: 0 when no check FAILs, 1 when one does. It changes nothing."


def settings() -> Settings:
    """Those that can be read: what is wrong with the others is a finding."""
    return configuration.settings_of(os.environ)[0]


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    seen = Seen(settings, os.environ, configuration.settings_of(os.environ)[1])
    try:
        seen.keys = _keys(settings)
    except (SettingError, KeyringInvalid, OSError) as error:
        seen.keyless = str(error)
    async with _database(seen):
        found = [await check.finding(seen) for check in (*configuration.CHECKS, *database.CHECKS)]
    print_findings(found, as_json=arguments.json)
    sys.exit(any(each.outcome is Outcome.FAIL for each in found))


def _keys(settings: Settings) -> Keyring:
    """Raises as `keyring` does, and where that would make a file."""
    path = keys_file(settings)
    if path and not (settings.secrets_keys_file or settings.database_url or path.exists()):
        raise SettingError(f"{path} does not exist yet; the first start makes it")
    return keyring(settings)


@asynccontextmanager
async def _database(seen: Seen) -> AsyncIterator[None]:
    """Opens it as it is, without migrating."""
    async with AsyncExitStack() as stack:
        try:
            with reaching():
                _check_exists(seen)
                url = await stack.enter_async_context(database_url(seen.settings, brief=True))
                seen.pending = await pending(seen.settings.database_direct_url or url)
                store = opened(seen.settings, url, name="evbridge doctor", size=1)
                seen.database = await stack.enter_async_context(store)
        except (EvbridgeError, EmbeddedPostgresError, MigrationError, SettingError) as error:
            seen.unreachable = str(error)
        except asyncpg.PostgresError as error:
            seen.unreachable = refusal(error)
        yield


def _check_exists(seen: Seen) -> None:
    """Raises SettingError where another database than the meant one would be looked at, or made."""
    if seen.settings.database_url:
        return
    if seen.environ.get("EVBRIDGE_DATABASE_URL"):
        raise SettingError("EVBRIDGE_DATABASE_URL cannot be used, see settings.values")
    if not embedded(seen.settings).data.exists():
        raise SettingError(f"there is none in {seen.settings.data_dir} yet; the first start makes it")
