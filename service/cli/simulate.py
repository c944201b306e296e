"""`evbridge simulate`."""

import argparse
import os
import sys

from service.app import PARTNERS
from service.cli.common import until_stopped
from service.settings import Settings

_PARTNERS = {partner.name: partner for partner in PARTNERS}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("partner", choices=_PARTNERS)
    parser.add_argument("--port", type=_port, default=8080, help="0 lets the system choose (default: %(default)s)")
    parser.add_argument("--api-key", default="demo-key", help="the key it accepts (default: %(default)s)")
    parser.add_argument("--fault", action="append", default=[], help="lose_answer, 3*PUT=status:429:30, ...")


def _port(text: str) -> int:
    """Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError("use a number from 0 to 65535, for example 8080")
    return int(text)


async def run(_: Settings, arguments: argparse.Namespace) -> None:
    simulator = _PARTNERS[arguments.partner].simulator(api_key=arguments.api_key)
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
        await until_stopped()
    finally:
        await simulator.stop()
