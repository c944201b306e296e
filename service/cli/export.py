"""`evbridge export`: objects as OCPI has them, or a whole tenant."""

import argparse
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from evbridge.v1.location_pb2 import ListLocationsRequest, Location
from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff

from service.cli.common import known_tenant
from service.domain.keys import key_of
from service.errors import EvbridgeError
from service.partners.ocpi.mapping import VERSIONS, object_to, text_of
from service.resources.tenant import FolderInvalid, Manifest, tenant_export
from service.settings import Settings
from service.storage.keyring import Keyring, SealBroken
from service.storage.location import location_page
from service.storage.opening import keyring, migrated_url, opened
from service.storage.pool import Database
from service.storage.tariff import tariff_page

_PAGE = 100
_KINDS: dict[str, tuple[Any, Any, Any]] = {
    "locations": (Location, ListLocationsRequest, location_page),
    "tariffs": (Tariff, ListTariffsRequest, tariff_page),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="WHAT",
        help="locations or tariffs: printed as OCPI objects; or a new directory, for all of a tenant",
    )
    parser.add_argument("--tenant", default="default", help="whose (default: %(default)s)")
    parser.add_argument("--version", choices=VERSIONS, default="2.2.1", help="of OCPI (default: %(default)s)")
    parser.add_argument(
        "--secrets-key",
        type=Path,
        metavar="FILE",
        help="takes secrets and keys along, sealed with this one; made if need be",
    )


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    if arguments.what in _KINDS:
        await _objects(settings, arguments)
    else:
        await _tenant(settings, arguments)


async def _tenant(settings: Settings, arguments: argparse.Namespace) -> None:
    folder, path = Path(arguments.what), arguments.secrets_key
    secrets_key = path and (Keyring.load(path) if path.exists() else Keyring.create(path))
    async with migrated_url(settings) as url, opened(settings, url) as database:
        await known_tenant(database, arguments.tenant)
        keys = keyring(settings) if secrets_key else None
        try:
            manifest = await tenant_export(database, keys, arguments.tenant, folder, secrets_key)
        except (FolderInvalid, SealBroken) as error:
            sys.exit(f"evbridge: {error}")
    print(f"exported: {manifest.rows} rows of the tenant {manifest.tenant} to {folder}")
    for line in left_out(manifest):
        print(f"left out: {line}")


def left_out(manifest: Manifest) -> list[str]:
    """What has to be made anew where the tenant goes."""
    found = {
        "the secrets of {}: give them again with UpdateIntegration": manifest.without_secrets,
        "what the partners of {} sign in with: register them again": manifest.without_tokens,
        "the API keys {}: make others with `evbridge keys create`": manifest.without_keys,
    }
    return [text.format(", ".join(sorted(names))) for text, names in found.items() if names]


async def _objects(settings: Settings, arguments: argparse.Namespace) -> None:
    complete = True
    async with migrated_url(settings) as url, opened(settings, url) as database:
        await known_tenant(database, arguments.tenant)
        before = "["
        async for message in _stored(database, arguments.tenant, arguments.what):
            try:
                written, losses = object_to(message, arguments.version)
            except EvbridgeError as error:
                complete = False
                paths = ", ".join(each.path for each in error.violations)
                print(f"left out: {key_of(message).shown}: {error.message} ({paths})", file=sys.stderr)
                continue
            print(f"{before}\n{text_of(written)}", end="")
            before = ","
            if losses:
                print(f"{key_of(message).shown} without {', '.join(loss.path for loss in losses)}", file=sys.stderr)
        print("\n]" if before == "," else "[]")
    if not complete:
        sys.exit(1)


async def _stored(database: Database, tenant_id: str, objects: str) -> AsyncIterator[Any]:
    """In the order of their keys."""
    message, request, page = _KINDS[objects]
    after = ""
    while rows := await page(database, tenant_id, request(), after, _PAGE):
        for _, payload in rows:
            yield message.FromString(payload)
        after = rows[-1][0]
