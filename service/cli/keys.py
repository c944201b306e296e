"""`evbridge keys`."""

import argparse
import re
import sys

from evbridge.options.v1.options_pb2 import ROLE_ADMIN, ROLE_READER, ROLE_WRITER

from service.app import keyring, migrated_url, opened
from service.cli.common import printable
from service.domain.caller import role_name
from service.settings import Settings
from service.storage.api_key import api_key_create, api_key_list, api_key_revoke

ROLES = {role_name(number).lower(): number for number in (ROLE_READER, ROLE_WRITER, ROLE_ADMIN)}


def arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True)

    def command(name: str, do: object, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help)
        added.set_defaults(do=do)
        return added

    made = command("create", _create, "make a key and print it once")
    made.add_argument("--tenant", required=True, type=_slug, help="made with its first key")
    made.add_argument("--role", required=True, choices=ROLES)
    made.add_argument("--name", default="", help="what the key is for")
    command("list", _list, "list keys, without their secrets").add_argument("--tenant", default="")
    revoked = command("revoke", _revoke, "revoke a key; it stops working within 5 seconds")
    revoked.add_argument("--tenant", required=True)
    revoked.add_argument("key_id")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    await arguments.do(settings, arguments)


def _slug(text: str) -> str:
    """Raises ArgumentTypeError for what cannot name a tenant."""
    if not re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError("use lower-case letters, digits and '-', a letter first, 63 at most")
    return text


async def _create(settings: Settings, arguments: argparse.Namespace) -> None:
    keys = keyring(settings)
    async with (
        migrated_url(settings, brief=True) as url,
        opened(settings, url) as database,
        database.transaction() as conn,
    ):
        key = await api_key_create(conn, keys, arguments.tenant, arguments.name, ROLES[arguments.role])
    print(key.reveal())


async def _list(settings: Settings, arguments: argparse.Namespace) -> None:
    async with migrated_url(settings, brief=True) as url, opened(settings, url) as database:
        keys = await api_key_list(database, arguments.tenant)
        for key in keys:
            state = f"revoked {key.revoke_time:%Y-%m-%d %H:%M}" if key.revoke_time else "in force"
            made = f"{role_name(key.role).lower()}\t{key.create_time:%Y-%m-%d %H:%M}"
            print(f"{key.tenant_id}\t{key.key_id}\t{made}\t{state}\t{printable(key.name)}")
    if not keys:
        print("evbridge: there is no key yet: make one with `evbridge keys create`", file=sys.stderr)


async def _revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    async with migrated_url(settings, brief=True) as url, opened(settings, url) as database:
        if not await api_key_revoke(database, arguments.tenant, arguments.key_id):
            sys.exit(f"evbridge: tenant {arguments.tenant} has no key {arguments.key_id} in force")
    print(f"revoked {arguments.key_id}: it stops working within 5 seconds")
