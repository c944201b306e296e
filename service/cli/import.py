"""`evbridge import`: OCPI objects in files, or a tenant that `evbridge export` wrote."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from evbridge.v1.location_pb2 import Location
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, Party
from evbridge.v1.tariff_pb2 import Tariff
from evbridge.v1.types_pb2 import BusinessDetails

from service.cli.common import known_tenant, operator
from service.cli.export import left_out
from service.domain.caller import Caller
from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.location import tariffs_named
from service.errors import EvbridgeError, FieldViolation
from service.partners.ocpi.files import Entry, entry_of, notices_of, values_in
from service.partners.ocpi.mapping import VERSIONS, CodecError, Notice
from service.resources.audit import audit_command
from service.resources.location import LOCATIONS
from service.resources.mutation import put, put_one
from service.resources.noun import Upsert
from service.resources.party import PARTIES
from service.resources.tariff import TARIFFS
from service.resources.tenant import FolderInvalid, hashes_fit, manifest_of, tenant_import
from service.settings import Settings
from service.storage.changes import change_time
from service.storage.connection import Connection
from service.storage.keyring import Keyring
from service.storage.opening import keyring, migrated_url, opened
from service.storage.party import parties_hold
from service.storage.pool import Database
from service.storage.tariff import tariffs_hold

_TENANT = "default"
_BATCH = 100
_COMMAND = "evbridge import"
_NO_TARIFF = "is no tariff of the party, and left out: import its tariffs first"


class _Rehearsed(Exception):
    """Rolls all back."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        nargs="+",
        help="JSON: an OCPI Location or Tariff, or a list of them; or the directory of an exported tenant",
    )
    parser.add_argument("--tenant", help=f"who gets them (default: {_TENANT}; of a directory, the tenant exported)")
    parser.add_argument(
        "--secrets-key", type=Path, metavar="FILE", help="what the secrets in a directory are sealed with"
    )
    parser.add_argument("--party", type=_party, metavar="DE*ABC", help="the owner of objects that name none (2.1.1)")
    parser.add_argument("--time-zone", default="", help="for locations that name none, such as Europe/Oslo")
    parser.add_argument("--version", choices=VERSIONS, default="", help="of OCPI, when the file does not tell")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, and store nothing")


def _party(text: str) -> PartyKey:
    """Raises ArgumentTypeError."""
    country_code, star, party_id = text.partition("*")
    if not (star and len(country_code) == 2 and len(party_id) == 3):
        raise argparse.ArgumentTypeError("use a country code, '*' and a party id, for example DE*ABC")
    return PartyKey.of(country_code, party_id)


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    if any(file.is_dir() for file in arguments.file):
        await _folder(settings, arguments)
    else:
        await _files(settings, arguments)


async def _folder(settings: Settings, arguments: argparse.Namespace) -> None:
    if len(arguments.file) > 1 or arguments.dry_run:
        sys.exit("evbridge: a directory is imported alone, and not rehearsed: all of it is stored or nothing")
    (folder,), keys = arguments.file, keyring(settings)
    secrets_key = arguments.secrets_key and Keyring.load(arguments.secrets_key)
    async with migrated_url(settings) as url, opened(settings, url) as database:
        try:
            manifest = manifest_of(folder)
            tenant_id = arguments.tenant or manifest.tenant
            before = await tenant_import(database, keys, operator(tenant_id), folder, manifest, secrets_key)
        except FolderInvalid as error:
            sys.exit(f"evbridge: nothing was imported: {error}")
    if before:
        print(f"the tenant {tenant_id} was made of this export on {before:%Y-%m-%d %H:%M} UTC; nothing was changed")
        return
    print(f"imported: the tenant {tenant_id}")
    for line in left_out(manifest):
        print(f"left out: {line}")
    if manifest.digests and not hashes_fit(keys, tenant_id, manifest):
        print("left out: API keys, and what partners sign in with: they need the same secrets keys and the same name")


async def _files(settings: Settings, arguments: argparse.Namespace) -> None:
    arguments.tenant = arguments.tenant or _TENANT
    entries = [entry for file in arguments.file for entry in _read(file, arguments)]
    async with migrated_url(settings) as url, opened(settings, url) as database:
        await known_tenant(database, arguments.tenant)
        work = Import(database, keyring(settings), arguments.tenant)
        with suppress(_Rehearsed):
            await work.all(entries, rehearsed=arguments.dry_run)
    print(f"{'would be stored' if arguments.dry_run else 'stored'}: {work.stored} of {len(entries)} objects")
    if work.stored < len(entries):
        sys.exit(1)


def _read(file: Path, arguments: argparse.Namespace) -> list[Entry]:
    """What a file holds, at pointers that begin with its name. What is refused is said."""
    try:
        values = [*values_in(file.read_bytes())]
    except CodecError as error:
        sys.exit(f"evbridge: {file} {error.problem}")
    given = arguments.version, arguments.party, arguments.time_zone
    entries = [entry_of(f"{file}#{pointer}", value, *given) for pointer, value in values]
    for entry in entries:
        _say("" if entry.message else "refused: ", entry.notices)
    return entries


def _say(before: str, notices: Sequence[Notice]) -> None:
    for notice in notices:
        print(f"{before}{notice.pointer} {notice.problem}", file=sys.stderr)


class Import:
    """Stores objects as ours, tariffs before the locations that name them; `stored` counts them."""

    def __init__(self, database: Database, keyring: Keyring, tenant_id: str) -> None:
        self.stored = 0
        self._database = database
        self._keyring = keyring
        self._tenant_id = tenant_id

    async def all(self, entries: Sequence[Entry], *, rehearsed: bool) -> None:
        """In transactions of a hundred objects, or in one that is rolled back: then it raises _Rehearsed."""
        read = [entry for entry in entries if entry.message is not None]
        kinds = ([entry for entry in read if isinstance(entry.message, kind)] for kind in (Tariff, Location))
        batches = [kind[start : start + _BATCH] for kind in kinds for start in range(0, len(kind), _BATCH)]
        if not rehearsed:
            for batch in batches:
                async with self._database.transaction() as conn:
                    await self._store(conn, batch)
            return
        async with self._database.transaction() as conn:
            for batch in batches:
                await self._store(conn, batch)
            raise _Rehearsed

    async def _store(self, conn: Connection, batch: Sequence[Entry]) -> None:
        messages: list[Any] = [entry.message for entry in batch]
        now, caller = await change_time(conn), operator(self._tenant_id)
        await self._make_parties(conn, caller, now, messages)
        locations = [(entry.pointer, entry.message) for entry in batch if isinstance(entry.message, Location)]
        await self._leave_out_unknown_tariffs(conn, locations)
        noun: Any = TARIFFS if isinstance(messages[0], Tariff) else LOCATIONS
        results = await put(conn, caller, now, [Upsert(noun, message, "object") for message in messages])
        await audit_command(conn, self._keyring, caller, _COMMAND)
        for entry, result in zip(batch, results, strict=True):
            if not isinstance(result, EvbridgeError):
                self.stored += 1
                continue
            within = (FieldViolation(each.path.partition(".")[2], each.description) for each in result.violations)
            _say("refused: ", [*notices_of(entry.pointer, within)] or [Notice(entry.pointer, result.message)])

    async def _make_parties(self, conn: Connection, caller: Caller, now: datetime, messages: Sequence[Any]) -> None:
        """Makes the owners that there are not yet."""
        owners = {key_of(message).party: message for message in reversed(messages)}
        for owner in sorted(owners.keys() - await parties_hold(conn, self._tenant_id, owners)):
            name = owners[owner].operator.name if isinstance(owners[owner], Location) else ""
            details = BusinessDetails(name=name or str(owner))
            party = Party(**owner._asdict(), roles=[PARTY_ROLE_CPO], business_details=details)
            await put_one(conn, caller, now, Upsert(PARTIES, party, "party"))
            print(f"new party: {owner}, as a CPO")

    async def _leave_out_unknown_tariffs(self, conn: Connection, locations: Sequence[tuple[str, Location]]) -> None:
        """A connector may name a tariff that nobody has: it stays without."""
        named = {key for _, location in locations for _, key in tariffs_named(location)}
        unknown = named - await tariffs_hold(conn, self._tenant_id, named) if named else set()
        for pointer, location in locations if unknown else ():
            found = (FieldViolation(path, _NO_TARIFF) for path, key in tariffs_named(location) if key in unknown)
            _say("", [*notices_of(pointer, found)])
            for connector in (connector for evse in location.evses for connector in evse.connectors):
                left = [id for id in connector.tariff_ids if ObjectKey.of(*key_of(location).party, id) not in unknown]
                connector.tariff_ids[:] = left
