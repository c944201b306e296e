"""`evbridge keys`."""

import argparse
import sys
from datetime import UTC, datetime

from evbridge.options.v1.options_pb2 import ROLE_ADMIN, ROLE_READER, ROLE_WRITER
from evbridge.v1.api_key_pb2 import Key
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import service_names
from service.cli.common import operator, printable
from service.domain.caller import role_name
from service.domain.keys import LOWER_CASE_ID
from service.domain.validation import validate
from service.resources.api_key import key_make
from service.resources.audit import audit_command
from service.settings import Settings
from service.storage.api_key import api_key_list, api_key_revoke, new_key
from service.storage.changes import change_time
from service.storage.opening import keyring, migrated_url, opened

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
    made.add_argument("--service", action="append", default=[], help="only for this one (evbridge.v1.TariffService)")
    made.add_argument("--integration", action="append", default=[], help="only for what names this one")
    made.add_argument("--expires", type=_time, help="when it stops working: 2027-01-01, or a time of ISO 8601")
    made.add_argument("--calls-per-minute", type=int, default=0, help="default: EVBRIDGE_CALLS_PER_MINUTE")
    command("list", _list, "list keys, without their secrets").add_argument("--tenant", default="")
    revoked = command("revoke", _revoke, "revoke a key; it stops working within 5 seconds")
    revoked.add_argument("--tenant", required=True)
    revoked.add_argument("key_id")


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    await arguments.do(settings, arguments)


def _slug(text: str) -> str:
    """Raises ArgumentTypeError for what cannot name a tenant."""
    if not LOWER_CASE_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("use lower-case letters, digits and '-', a letter first, 63 at most")
    return text


def _time(text: str) -> Timestamp:
    """In UTC when no zone is named. Raises ArgumentTypeError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("use a date or a time, such as 2027-01-01 or 2027-01-01T12:00:00Z") from None
    stamp = Timestamp()
    stamp.FromDatetime(time if time.tzinfo else time.replace(tzinfo=UTC))
    return stamp


async def _create(settings: Settings, arguments: argparse.Namespace) -> None:
    keys, secret = keyring(settings), new_key()
    key = Key(
        name=arguments.name,
        role=ROLES[arguments.role],
        services=arguments.service,
        integrations=arguments.integration,
        expire_time=arguments.expires,
        calls_per_minute=arguments.calls_per_minute,
    )
    validate(key, prefix="key.")
    async with (
        migrated_url(settings, brief=True) as url,
        opened(settings, url) as database,
        database.transaction() as conn,
    ):
        maker = operator(arguments.tenant)
        await key_make(conn, keys, maker, await change_time(conn), key, secret, service_names())
        await audit_command(conn, keys, maker, "evbridge keys create")
    print(secret.reveal())


async def _list(settings: Settings, arguments: argparse.Namespace) -> None:
    async with migrated_url(settings, brief=True) as url, opened(settings, url) as database:
        keys = await api_key_list(database, arguments.tenant)
        for tenant_id, key in keys:
            columns = (
                tenant_id,
                key.id,
                role_name(key.role).lower(),
                _shown(key.create_time),
                _state(key),
                f"used {_shown(key.last_use_time)}" if key.HasField("last_use_time") else "never used",
                " ".join([*key.services, *key.integrations]) or "unlimited",
                printable(key.name),
            )
            print("\t".join(columns))
    if not keys:
        print("evbridge: there is no key yet: make one with `evbridge keys create`", file=sys.stderr)


def _state(key: Key) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {_shown(key.revoke_time)}"
    if not key.HasField("expire_time"):
        return "in force"
    ended = key.expire_time.ToDatetime(UTC) <= datetime.now(UTC)
    return f"{'expired' if ended else 'in force until'} {_shown(key.expire_time)}"


def _shown(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M}"


async def _revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    keys, revoker = keyring(settings), operator(arguments.tenant)
    async with (
        migrated_url(settings, brief=True) as url,
        opened(settings, url) as database,
        database.transaction() as conn,
    ):
        if not await api_key_revoke(conn, arguments.tenant, arguments.key_id):
            sys.exit(f"evbridge: tenant {arguments.tenant} has no key {arguments.key_id} in force")
        revoker.trail.add("key", [arguments.key_id], 1)
        await audit_command(conn, keys, revoker, "evbridge keys revoke")
    print(f"revoked {arguments.key_id}: it stops working within 5 seconds")
