"""eMabler's documented examples, and what its error lines say."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.bridge.ports import Refusal
from service.bridge.registry import Registry, contract_files
from service.bridge.transcode import reply_from_http, reply_to_http
from service.partners.emabler import errors as emabler

GOLDEN = Path(__file__).parents[1] / "golden" / "emabler"
SERVICE = "/evbridge.partner.emabler.v2.IntegrationService"
OPERATIONS = Registry.of(contract_files("evbridge.partner.emabler.v2")).operations


def documented() -> Any:
    case = json.loads((GOLDEN / "get_integration_documented_example.json").read_text())
    return case["exchanges"][0]["answer"]["body"]


@pytest.mark.parametrize(
    ("name", "example"), [("GetIntegration", documented()), ("AddLocation", {"id": "Loc-123"})], ids=lambda value: value
)
def test_a_documented_example_goes_through_unchanged(name: str, example: Any) -> None:
    operation = OPERATIONS[f"{SERVICE}/{name}"]
    message, rejects, repairs, *_ = reply_from_http(operation, json.dumps(example).encode())
    assert json.loads(reply_to_http(operation, message)) == example
    assert (rejects, repairs) == ((), 0)
    assert "more" not in str(message)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Something went wrong", "SOMETHING_WENT_WRONG"),
        (b"Not authorised", "NOT_AUTHORISED"),
        (b'"Customer not found"\r\n', "CUSTOMER_NOT_FOUND"),
        (b"Customer 4711 not found", ""),
        (b'{"message": "Customer not found"}', ""),
        (b"", ""),
        (b"\xff", ""),
    ],
)
def test_only_a_documented_line_says_something(body: bytes, code: str) -> None:
    assert emabler.explain(404, body) == Refusal(code)
