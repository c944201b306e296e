"""`evbridge export`."""

import argparse
import sys
from collections.abc import AsyncIterator
from typing import Any

from evbridge.v1.location_pb2 import ListLocationsRequest, Location
from evbridge.v1.tariff_pb2 import ListTariffsRequest, Tariff

from service.app import migrated_url, opened
from service.cli.common import known_tenant
from service.domain.keys import key_of
from service.errors import EvbridgeError
from service.partners.ocpi.mapping import VERSIONS, object_to, text_of
from service.settings import Settings
from service.storage.location import location_page
from service.storage.pool import Database
from service.storage.tariff import tariff_page

_PAGE = 100
_KINDS: dict[str, tuple[Any, Any, Any]] = {
    "locations": (Location, ListLocationsRequest, location_page),
    "tariffs": (Tariff, ListTariffsRequest, tariff_page),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("objects", choices=_KINDS)
    parser.add_argument("--tenant", default="default", help="whose objects (default: %(default)s)")
    parser.add_argument("--version", choices=VERSIONS, default="2.2.1", help="of OCPI (default: %(default)s)")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    complete = True
    async with migrated_url(settings) as url, opened(settings, url) as database:
        await known_tenant(database, arguments.tenant)
        before = "["
        async for message in _stored(database, arguments.tenant, arguments.objects):
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
