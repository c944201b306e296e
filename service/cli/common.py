"""What several commands need."""

import asyncio
import getpass
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO

import grpc
from cryptography import x509
from evbridge.options.v1.options_pb2 import ROLE_ADMIN

from service.domain.caller import Caller
from service.domain.verdict import Finding, Outcome
from service.settings import Settings
from service.storage.api_key import api_key_list
from service.storage.pool import Database


async def until_stopped(parent: IO[str] | None = None) -> None:
    """Waits for SIGTERM or SIGINT, or for the end of what `parent` writes."""
    stop = asyncio.Event()
    if parent is not None:
        asyncio.get_running_loop().add_reader(parent, stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def operator(tenant_id: str) -> Caller:
    """Who types a command, as the audit names them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # as in the image, whose user has no name
        user = str(os.getuid())
    return Caller(tenant_id, f"cli:{user}", ROLE_ADMIN, socket.gethostname())


async def known_tenant(database: Database, tenant_id: str) -> None:
    """Exits when there is no such tenant."""
    if not await api_key_list(database, tenant_id):
        made = f"`evbridge keys create --tenant {tenant_id} --role admin` makes it"
        sys.exit(f"evbridge: there is no tenant {tenant_id}: {made}")


def channel_to(settings: Settings, address: str) -> grpc.aio.Channel:
    """A channel to the server of these settings, by whatever name its certificate has."""
    if not settings.tls_cert_file:
        return grpc.aio.insecure_channel(address)
    chain = Path(settings.tls_cert_file).read_bytes()
    own = (Path(settings.tls_key_file).read_bytes(), chain) if settings.tls_client_ca_file else (None, None)
    options = [("grpc.ssl_target_name_override", name) for name in _names(chain)[:1]]
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(chain, *own), options)


def _names(chain: bytes) -> list[str]:
    """The hosts that a certificate is for."""
    try:
        extensions = x509.load_pem_x509_certificates(chain)[0].extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return []
    hosts = names.get_values_for_type(x509.DNSName)
    return [host.replace("*", "any") for host in hosts] + list(map(str, names.get_values_for_type(x509.IPAddress)))


def printable(text: str) -> str:
    """Text that somebody else wrote, without what a terminal would act on."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """A report of checks, for people or for machines."""
    print(_findings_json(findings) if as_json else _findings_text(findings))


def _findings_text(findings: Sequence[Finding]) -> str:
    told = [*_without_repeats(findings)]
    width = max(len(each.check) for each in told)
    indent = " " * (width + 10)
    lines = []
    for each in told:
        lines.append(f"{each.outcome.value:<8} {each.check:<{width}} {each.seen}")
        if each.advice:
            lines += [f"{indent}wanted: {each.wanted}", f"{indent}to do: {each.advice}"]
    counts = Counter(each.outcome for each in findings)
    counted = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
    return "\n".join([*lines, f"{len(findings)} checks: {counted}"])


def _without_repeats(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Checks in a row that are skipped for one reason are told as one."""
    for (outcome, seen), group in groupby(findings, lambda each: (each.outcome, each.seen)):
        alike = [*group]
        if outcome is Outcome.SKIPPED and alike[1:]:
            yield alike[0]._replace(seen=f"and up to {alike[-1].check}: {seen}")
        else:
            yield from alike


def _findings_json(findings: Sequence[Finding]) -> str:
    return json.dumps(
        [each._asdict() | {"outcome": each.outcome.value} for each in findings], indent=2, ensure_ascii=False
    )


def loop_factory() -> asyncio.AbstractEventLoop:
    """uvloop where it exists: about a tenth more calls a second."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
