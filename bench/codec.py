"""Chargeprice's company document through the bridge's codec, against the standard library and protobuf's own JSON."""

import json
import timeit
from collections.abc import Callable
from statistics import median

from evbridge.partner.chargeprice.v1.company_pb2 import CompanyDocument
from google.protobuf.json_format import MessageToJson, ParseDict

from bench.sample import company
from service.bridge.codec import compile_codec
from service.bridge.partners import chargeprice

ROUNDS = 9
CALLS = 500


def report() -> None:
    codec = compile_codec(CompanyDocument.DESCRIPTOR, field_names=True)
    document = chargeprice.document(company(), 7)
    text = codec.encode(document)
    if codec.decode(text).message != document or ParseDict(json.loads(text), CompanyDocument()) != document:
        raise RuntimeError("the codec and protobuf do not read the same document")
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "decode": (lambda: codec.decode(text), lambda: ParseDict(json.loads(text), CompanyDocument())),
        "encode": (
            lambda: codec.encode(document),
            lambda: MessageToJson(document, preserving_proto_field_name=True, indent=None),
        ),
    }
    print(f"\nA company document of {len(text.encode())} bytes: median of {ROUNDS} interleaved rounds, us a call\n")
    print(f"{'':8}{'codec':>8}{'json_format':>13}{'ratio':>8}")
    for name, pair in pairs.items():
        rounds = [tuple(timeit.timeit(call, number=CALLS) / CALLS * 1e6 for call in pair) for _ in range(ROUNDS)]
        ours, theirs = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(theirs / ours for ours, theirs in rounds)
        print(f"{name:8}{ours:8.1f}{theirs:13.1f}{ratio:7.1f}x")
