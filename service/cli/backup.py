"""`evbridge backup`."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from service.settings import Settings
from service.storage.backup import backup
from service.storage.opening import database_url, embedded, keys_file


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="a directory that is not there yet")
    parser.add_argument("--with-keys", action="store_true", help="takes the file of the secrets keys along, too")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    server, keys, begun = embedded(settings), keys_file(settings), datetime.now(UTC)
    if not server.data.exists():
        sys.exit(f"evbridge: there is no database in {settings.data_dir} yet")
    async with database_url(settings, brief=True):
        await backup(server, arguments.folder, keys if arguments.with_keys else None)
    print(f"copied to {arguments.folder}, with all that was acknowledged before {begun:%Y-%m-%d %H:%M:%S} UTC")
    if not (arguments.with_keys and keys):
        where = keys or "EVBRIDGE_SECRETS_KEYS"
        print(f"left out: {where}: keep a copy elsewhere, no secret and no API key works without it")
