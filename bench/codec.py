"""JSON text <-> message through the bridge's codec, against the standard library and protobuf's own JSON."""

import json
import timeit
from collections.abc import Callable
from statistics import median

from google.protobuf.json_format import MessageToJson, ParseDict
from google.protobuf.message import Message

from bench.sample import company, location
from service.bridge.codec import compile_codec
from service.partners.chargeprice import mapping as chargeprice

ROUNDS = 9
CALLS = 300


def report() -> None:
    for name, message in (("A company document", chargeprice.document(company(), 7)), ("A location", _nested())):
        _compare(name, message)


def _nested() -> Message:
    """With the times that OCPI asks for at each level."""
    site = location(1)
    for level in (site, *site.evses, *(each for evse in site.evses for each in evse.connectors)):
        level.last_updated.FromJsonString("2026-03-04T05:23:00Z")
    return site


def _compare(name: str, message: Message) -> None:
    codec = compile_codec(message.DESCRIPTOR, field_names=True)
    text = codec.encode(message)
    # protobuf spells enum values in full, so each reads what it wrote.
    written = MessageToJson(message, preserving_proto_field_name=True, indent=None)
    read = type(message)

    def decode() -> object:
        return codec.decode(text).message

    def encode() -> object:
        return codec.encode(message)

    def parse() -> object:
        return ParseDict(json.loads(written), read())

    def print_() -> object:
        return MessageToJson(message, preserving_proto_field_name=True, indent=None)

    if decode() != message or parse() != message:
        raise RuntimeError("the codec and protobuf do not read the same message")
    print(f"\n{name} of {len(text.encode())} bytes: median of {ROUNDS} interleaved rounds, us a call\n")
    print(f"{'':8}{'codec':>8}{'json_format':>13}{'ratio':>8}")
    pairs: dict[str, tuple[Callable[[], object], ...]] = {"decode": (decode, parse), "encode": (encode, print_)}
    total = [0.0, 0.0]
    for way, pair in pairs.items():
        rounds = [tuple(timeit.timeit(call, number=CALLS) / CALLS * 1e6 for call in pair) for _ in range(ROUNDS)]
        ours, theirs = (median(column) for column in zip(*rounds, strict=True))
        total[0] += ours
        total[1] += theirs
        print(f"{way:8}{ours:8.1f}{theirs:13.1f}{median(theirs / ours for ours, theirs in rounds):7.1f}x")
    print(f"{'both':8}{total[0]:8.1f}{total[1]:13.1f}{total[1] / total[0]:7.1f}x")
