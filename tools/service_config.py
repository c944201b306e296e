"""What gRPC clients repeat by themselves, as gRPC's service config: calls of evbridge.v1 that may be made twice.

A change is not among them: it may be repeated when it has a `request_id`, which no service config can see.
"""

import json
from importlib import import_module
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from tools.third_party import ROOT

TARGET = ROOT / "gen" / "service_config.json"
_RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    # As CANCELLED gRPC ends what arrives in the moment in which a server's port closes.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}


def text() -> str:
    """From gen/python, which has to be fresh."""
    names = [
        {"service": service.full_name, "method": method.name}
        for service in _services()
        for method in service.methods
        if method.GetOptions().idempotency_level and not method.client_streaming
    ]
    config: dict[str, Any] = {"methodConfig": [{"name": names, "retryPolicy": _RETRY}]}
    return json.dumps(config, indent=1) + "\n"


def _services() -> list[ServiceDescriptor]:
    paths = sorted((ROOT / "gen" / "python" / "evbridge" / "v1").glob("*_pb2.py"))
    files = [import_module(f"evbridge.v1.{path.stem}").DESCRIPTOR for path in paths]
    return [service for file in files for service in file.services_by_name.values()]
