"""`evbridge ocpi`."""

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from service.bridge.addresses import EgressPolicy, UrlRefused, check_url
from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress
from service.bridge.ports import Permit
from service.bridge.registry import Registry, contract_files
from service.cli.common import print_findings
from service.domain.secret import Secret
from service.domain.target import Target
from service.domain.verdict import Outcome
from service.errors import ResourceNotFound
from service.partners.ocpi.diagnosis import diagnosed
from service.settings import Settings

_TOKEN = "EVBRIDGE_OCPI_TOKEN"  # noqa: S105


def arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True)
    help = "say what an OCPI party really does; only reads from it"
    check = commands.add_parser("check", help=help, description=help)
    check.add_argument("url", help="its versions URL, for example https://ocpi.example.com/versions")
    check.add_argument("--token", help=f"one that the party gave you; {_TOKEN} keeps it out of the list of processes")
    check.add_argument("--json", action="store_true", help="for machines")
    check.epilog = (
        "Exit status: 0 when no check FAILs, 1 when one does, 2 when the party could not be checked. Set "
        "EVBRIDGE_EGRESS_ALLOW_LOOPBACK and EVBRIDGE_EGRESS_ALLOW_HTTP to true for a party on this machine."
    )


async def run(settings: Settings, arguments: argparse.Namespace) -> None:
    token = arguments.token or os.environ.get(_TOKEN, "")
    policy = EgressPolicy(settings.egress_allow_loopback, settings.egress_allow_http)
    try:
        check_url(arguments.url, policy)
    except UrlRefused as refused:
        _give_up(f"the URL {refused}")
    if not (0 < len(token) <= 255 and token.isascii() and token.isprintable()):
        _give_up(f"give the token that the party gave you: --token or {_TOKEN}")
    async with aclosing(Egress(policy)) as egress:
        gate = _Gate()
        registry = Registry.of(contract_files("evbridge.partner.ocpi.v2"))
        channel = PartnerChannel(registry, gate, gate, egress, {})
        target = Target("", "", "ocpi", arguments.url, Secret(token), 1, secret=Secret(token))
        found = await diagnosed(channel, target, policy)
    print_findings(found, as_json=arguments.json)
    if found[0].outcome is not Outcome.PASS:
        sys.exit(2)
    sys.exit(any(each.outcome is Outcome.FAIL for each in found))


class _Gate:
    """No integration, and no limit: one request after the other."""

    async def target(self, tenant_id: str, integration_id: str) -> Target:
        raise ResourceNotFound.of("integration", integration_id)

    @asynccontextmanager
    async def permit(self, target: Target, *, safe: bool, timeout_s: float) -> AsyncIterator[Permit]:
        yield Permit()


def _give_up(problem: str) -> None:
    print(f"evbridge: {problem}", file=sys.stderr)
    sys.exit(2)
