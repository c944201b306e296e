"""`evbridge quote`."""

import argparse
import sys
from pathlib import Path

from evbridge.v1.pricing_pb2 import ROUNDING_LEVEL_LINE, Rounding

from service.bridge.codec import CodecError
from service.domain.pricing.quote import quote_of_tariffs
from service.domain.pricing.table import table
from service.errors import InvalidArgument
from service.ocpi.objects import complaint, pricing_of, quote_text
from service.settings import Settings


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "tariff", type=Path, nargs="?", help="a file with an OCPI Tariff object; without it the CDR's own tariffs count"
    )
    parser.add_argument(
        "session", type=Path, help='a file with an OCPI CDR or Session object, or {"plan": {...}, "options": {...}}'
    )
    parser.add_argument(
        "--whole-elements",
        action="store_true",
        help="read the tariff by the letter of OCPI 2.1.1: one element at a time",
    )
    parser.add_argument("--time-zone", default="", help="of the location, for example Europe/Oslo")
    parser.add_argument(
        "--decimals", type=int, choices=range(13), metavar="N", help="round each line to so many decimals, halves up"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.epilog = (
        "Try examples/tariff.json with examples/cdr.json or examples/plan.json, and --time-zone Europe/Berlin."
    )


def _content(file: Path, wanted: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        sys.exit(f"evbridge: {file} cannot be read ({error.strerror}): give a file with {wanted}")


async def run(_: Settings, arguments: argparse.Namespace) -> None:
    tariff = arguments.tariff and _content(arguments.tariff, "an OCPI Tariff object, such as examples/tariff.json")
    session = _content(arguments.session, "an OCPI CDR or Session object or a plan, such as examples/cdr.json")
    try:
        request, own, notices = pricing_of(
            tariff, session, arguments.time_zone, whole_elements=arguments.whole_elements
        )
        if arguments.decimals is not None:
            request.options.rounding.CopyFrom(Rounding(level=ROUNDING_LEVEL_LINE, decimals=arguments.decimals))
        quote = quote_of_tariffs(own or [request.tariff], request, request.options)
    except (CodecError, InvalidArgument) as error:
        session_file = str(arguments.session)
        sys.exit(f"evbridge: {complaint(error, str(arguments.tariff or session_file), session_file)}")
    quote.notices.extend(notices)
    print(quote_text(quote) if arguments.json else table(quote, request.options.time_zone))
