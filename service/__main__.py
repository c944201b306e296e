"""The command line: evbridge serve, demo, migrate, keys, simulate, health, quote."""

import argparse
import asyncio
import dataclasses
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from evbridge.options.v1.options_pb2 import ROLE_ADMIN, ROLE_READER, ROLE_WRITER
from evbridge.v1.pricing_pb2 import ROUNDING_LEVEL_LINE, Rounding
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.app import FIRST_TENANT, Evbridge, evbridge, keyring, loop_factory, migrated_url, opened
from service.bridge.codec import CodecError
from service.bridge.ocpi_objects import complaint, pricing_of, quote_text
from service.demo.data import fill
from service.demo.story import demo
from service.domain.caller import role_name
from service.domain.pricing.quote import quote_of_tariffs
from service.domain.pricing.table import table
from service.errors import EvbridgeError, InvalidArgument
from service.settings import SettingError, Settings
from service.simulator import ampeco, chargeprice, emabler, ocpi, salesforce, utility_cloud
from service.simulator.front import Front
from service.storage.api_key import api_key_create, api_key_list, api_key_revoke
from service.storage.connection import describe
from service.storage.embedded import EmbeddedPostgresError
from service.storage.keyring import KeyringInvalid
from service.storage.migrations import MigrationError
from service.telemetry import configure_logging, configure_telemetry, shutdown_telemetry

ROLES = {role_name(number).lower(): number for number in (ROLE_READER, ROLE_WRITER, ROLE_ADMIN)}


SIMULATORS: Mapping[str, Callable[..., Front]] = {
    module.__name__.rpartition(".")[2]: module.Simulator
    for module in (ampeco, chargeprice, emabler, ocpi, salesforce, utility_cloud)
}


def main() -> None:
    arguments = _parser().parse_args()
    try:
        settings = Settings.from_environ()
        configure_logging("WARNING" if arguments.command == "demo" else settings.log_level)
        configure_telemetry()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(arguments.run(settings, arguments))
    except (SettingError, KeyringInvalid, MigrationError, EmbeddedPostgresError, EvbridgeError, OSError) as error:
        sys.exit(f"evbridge: {error}")
    except asyncpg.PostgresError as error:
        sys.exit(f"evbridge: the database refuses: {describe(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutdown_telemetry()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evbridge", description="Settings are EVBRIDGE_* variables: `evbridge serve --help` lists them."
    )
    parser.add_argument("--version", action="version", version=f"evbridge {version('evbridge')}")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Any, help: str, among: Any = commands) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = among.add_parser(name, help=help, description=help)
        added.set_defaults(run=run)
        return added

    serve = command("serve", _serve, "serve gRPC and deliver to partners")
    serve.formatter_class, serve.epilog = argparse.RawDescriptionHelpFormatter, _settings_help()
    serve.add_argument("--demo-data", action="store_true", help="fill the tenant 'default' first, to look around")
    command("demo", lambda settings, _: demo(), "tell the whole story on a throw-away database, then exit")
    command("migrate", _migrate, "bring the database's schema up to date")
    command("health", _health, "exit 0 when the server at EVBRIDGE_LISTEN is serving")
    quote = command("quote", _quote, "say what a session costs under a tariff, and why")
    quote.add_argument(
        "tariff", type=Path, nargs="?", help="a file with an OCPI Tariff object; without it the CDR's own tariffs count"
    )
    quote.add_argument(
        "session", type=Path, help='a file with an OCPI CDR or Session object, or {"plan": {...}, "options": {...}}'
    )
    quote.add_argument(
        "--whole-elements",
        action="store_true",
        help="read the tariff by the letter of OCPI 2.1.1: one element at a time",
    )
    quote.add_argument("--time-zone", default="", help="of the location, for example Europe/Oslo")
    quote.add_argument(
        "--decimals", type=int, choices=range(13), metavar="N", help="round each line to so many decimals, halves up"
    )
    quote.add_argument("--json", action="store_true", help="for machines")
    quote.epilog = "The source holds examples: examples/tariff.json with examples/cdr.json or examples/plan.json."
    simulate = command("simulate", _simulate, "be a partner on this machine")
    simulate.add_argument("partner", choices=SIMULATORS)
    simulate.add_argument("--port", type=int, default=8080)
    simulate.add_argument("--api-key", default="demo-key", help="the key it accepts (default: %(default)s)")
    simulate.add_argument("--fault", action="append", default=[], help="lose_answer, 3*PUT=status:429:30, ...")
    keys = commands.add_parser("keys", help="make, list and revoke API keys").add_subparsers(required=True)
    create = command("create", _keys_create, "make a key and print it once", keys)
    create.add_argument("--tenant", required=True, type=_slug, help="made with its first key")
    create.add_argument("--role", required=True, choices=ROLES)
    create.add_argument("--name", default="", help="what the key is for")
    command("list", _keys_list, "list keys, without their secrets", keys).add_argument("--tenant", default="")
    revoke = command("revoke", _keys_revoke, "revoke a key; it stops working within 5 seconds", keys)
    revoke.add_argument("--tenant", required=True)
    revoke.add_argument("key_id")
    return parser


def _settings_help() -> str:
    lines = [f"  {f.metadata['name']:33}{f.metadata['help']}" for f in dataclasses.fields(Settings)]
    return "\n".join(("settings (environment variables):", *lines))


def _slug(text: str) -> str:
    """Raises ArgumentTypeError for what cannot name a tenant."""
    if not re.fullmatch("[a-z]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError("use lower-case letters, digits and '-', a letter first, 63 at most")
    return text


async def _serve(settings: Settings, arguments: argparse.Namespace) -> None:
    async with evbridge(settings) as running:
        if running.first_key:
            scheme = "" if settings.tls_cert_file else "-plaintext "
            print(
                f"The first key, an admin of the tenant {FIRST_TENANT!r}, is shown this once:\n\n"
                f"  grpcurl {scheme}-H 'authorization: Bearer {running.first_key.reveal()}' {running.address} list\n\n"
                f"Another one: {_another_key()}",
                file=sys.stderr,
            )
        elif settings.first_key and sys.stderr.isatty():
            print(f"The first key was shown when it was made. Another one: {_another_key()}", file=sys.stderr)
        if arguments.demo_data:
            await _fill(settings, running)
        print(f"evbridge serves on {running.address}", file=sys.stderr)
        await _until_stopped()


def _another_key() -> str:
    """The command that makes one, as it is typed here."""
    program = Path(sys.executable).with_name("evbridge")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"{program} keys create --tenant {FIRST_TENANT} --role admin"


async def _fill(settings: Settings, running: Evbridge) -> None:
    """Through the front door, with a key that lives as long as this."""
    async with running.database.transaction() as conn:
        key = await api_key_create(conn, running.keyring, FIRST_TENANT, "demo data", ROLE_ADMIN)
    try:
        async with _channel(settings, running.address) as channel:
            credential = (("authorization", f"Bearer {key.reveal()}"),)
            async for _ in fill(channel, credential):
                pass
    finally:
        _, key_id, _ = key.reveal().split("_", 2)
        await api_key_revoke(running.database, FIRST_TENANT, key_id)
    print(f"the tenant {FIRST_TENANT!r} holds the demo's data", file=sys.stderr)


async def _until_stopped() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _migrate(settings: Settings, _: argparse.Namespace) -> None:
    async with migrated_url(settings):
        print("the schema is current")


async def _health(settings: Settings, _: argparse.Namespace) -> None:
    address = settings.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104
    async with _channel(settings, address) as channel:
        try:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            reply = await check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            sys.exit(f"evbridge: {address} answers {error.code().name}")
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            sys.exit(f"evbridge: {address} is not serving")


def _channel(settings: Settings, address: str) -> grpc.aio.Channel:
    if not settings.tls_cert_file:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(Path(settings.tls_cert_file).read_bytes()))


async def _simulate(_: Settings, arguments: argparse.Namespace) -> None:
    simulator = SIMULATORS[arguments.partner](api_key=arguments.api_key)
    try:
        for fault in arguments.fault:
            simulator.inject(fault)
    except ValueError as error:
        sys.exit(f"evbridge: {error}")
    try:
        url = await simulator.start(port=arguments.port)
    except OSError as error:
        sys.exit(f"evbridge: cannot listen on port {arguments.port}: {os.strerror(error.errno or 0)} (--port)")
    print(f"{arguments.partner} is simulated on {url}{simulator.path}", file=sys.stderr)
    try:
        await _until_stopped()
    finally:
        await simulator.stop()


async def _quote(_: Settings, arguments: argparse.Namespace) -> None:
    tariff = arguments.tariff and arguments.tariff.read_bytes()
    session = arguments.session.read_bytes()
    try:
        request, own, notices = pricing_of(
            tariff, session, arguments.time_zone, whole_elements=arguments.whole_elements
        )
        if arguments.decimals is not None:
            request.options.rounding.CopyFrom(Rounding(level=ROUNDING_LEVEL_LINE, decimals=arguments.decimals))
        quote = quote_of_tariffs(own or [request.tariff], request, request.options)
    except CodecError as error:
        sys.exit(f"evbridge: {error}")
    except InvalidArgument as error:
        sys.exit(f"evbridge: {complaint(error)}")
    quote.notices.extend(notices)
    print(quote_text(quote) if arguments.json else table(quote, request.options.time_zone))


async def _keys_create(settings: Settings, arguments: argparse.Namespace) -> None:
    keys = keyring(settings)
    async with migrated_url(settings) as url, opened(settings, url) as database, database.transaction() as conn:
        key = await api_key_create(conn, keys, arguments.tenant, arguments.name, ROLES[arguments.role])
    print(key.reveal())


async def _keys_list(settings: Settings, arguments: argparse.Namespace) -> None:
    async with migrated_url(settings) as url, opened(settings, url) as database:
        for key in await api_key_list(database, arguments.tenant):
            role = role_name(key.role).lower()
            state = f"revoked {key.revoke_time:%Y-%m-%d %H:%M}" if key.revoke_time else "in force"
            print(
                f"{key.tenant_id}\t{key.key_id}\t{role}\t{key.create_time:%Y-%m-%d %H:%M}\t{state}\t{_shown(key.name)}"
            )


def _shown(text: str) -> str:
    """Text that somebody else wrote, without what a terminal would act on."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


async def _keys_revoke(settings: Settings, arguments: argparse.Namespace) -> None:
    async with migrated_url(settings) as url, opened(settings, url) as database:
        if not await api_key_revoke(database, arguments.tenant, arguments.key_id):
            sys.exit(f"evbridge: tenant {arguments.tenant} has no key {arguments.key_id} in force")


if __name__ == "__main__":
    main()
