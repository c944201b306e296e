"""`evbridge serve`."""

import argparse
import asyncio
import dataclasses
import gc
import sys
from pathlib import Path
from typing import Final

from evbridge.options.v1.options_pb2 import ROLE_ADMIN

from service.app import FIRST_TENANT, Evbridge, evbridge, evbridge_processes
from service.cli.common import channel_to, until_stopped
from service.demo.data import fill
from service.processes.serving import tell_parent
from service.settings import Settings
from service.storage.api_key import api_key_create, api_key_revoke, key_id_of

if sys.platform != "win32":
    import resource

_MAX_FILES: Final = 65_536


def arguments(parser: argparse.ArgumentParser) -> None:
    lines = [f"  {f.metadata['name']:38}{f.metadata['help']}" for f in dataclasses.fields(Settings)]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(("settings (environment variables):", *lines))
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="serve from N processes on one port")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--demo-data", action="store_true", help="fill the tenant 'default' first, to look around")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError("must be a whole number above 0, such as 2")
    return int(text)


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    open_files()
    if arguments.worker:
        await _work(settings)
        return
    several = arguments.workers > 1
    async with evbridge_processes(settings, arguments.workers) if several else evbridge(settings) as running:
        if running.first_key:
            scheme = "" if settings.tls_cert_file else "-plaintext "
            header = f"authorization: Bearer {running.first_key.reveal()}"
            use = f"grpcurl {scheme}-H '{header}' {running.address} list" if settings.reflects() else header
            print(
                f"The first key, an admin of the tenant {FIRST_TENANT!r}, is shown this once:\n\n"
                f"  {use}\n\n"
                f"Another one: {_another_key()}",
                file=sys.stderr,
            )
        elif settings.first_key and sys.stderr.isatty():
            print(f"The first key was shown when it was made. Another one: {_another_key()}", file=sys.stderr)
        if arguments.demo_data:
            await _fill(settings, running)
        _settle()
        if settings.ocpi_listen:
            url, served = settings.public_url or running.ocpi_url, running.ocpi_url
            where = f", which is {served}/ocpi/versions here" if settings.public_url else ""
            print(f"OCPI parties find their versions at {url}/ocpi/versions{where}", file=sys.stderr)
        print(f"evbridge serves on {running.address}", file=sys.stderr)
        await until_stopped()


async def _work(settings: Settings) -> None:
    """One of several processes: tells its parent that it serves, until it is drained, and ends with it."""
    async with evbridge(settings, shares_ports=True):
        _settle()
        telling = asyncio.create_task(tell_parent())
        await until_stopped(sys.stdin)
    telling.cancel()


def open_files() -> None:
    """Lets the process have as many as it may: connections are files, and many systems begin with 1,024."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settle() -> None:
    """What is here now stays for good: every collection would visit it, and hold up what is served meanwhile."""
    gc.collect()
    gc.freeze()


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
        async with channel_to(settings, running.address) as channel:
            credential = (("authorization", f"Bearer {key.reveal()}"),)
            async for _ in fill(channel, credential):
                pass
    finally:
        await api_key_revoke(running.database, FIRST_TENANT, key_id_of(key))
    print(f"the tenant {FIRST_TENANT!r} holds the demo's data", file=sys.stderr)
