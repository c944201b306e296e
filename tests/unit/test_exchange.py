"""What of an exchange may be kept."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service.domain.exchange import MAX_TEXT, Exchange, kept

EXCHANGE = Exchange(
    tenant_id="acme",
    integration_id="cp",
    operation="/evbridge.partner.p.v1.Users/Create",
    method="POST",
    url="https://p.example/users?q=1",
    request_headers={"API-Key": "***"},
    request_body=b"",
    status=200,
    response_headers={},
    response_body=b"",
    duration_s=0.5,
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)

SEEN = {"id": 7, "name": "Wattwerk", "status": "active", "address": "Hauptstr. 1", "last_updated": "2026", "vat": 19.0}
HIDDEN = {
    "email": "a@b.example",
    "contactEmail": "a@b.example",
    "phone_number": "+49",
    "mobilePhone": "+49",
    "first_name": "Eva",
    "lastName": "M",
    "dateOfBirth": "1980-01-01",
    "password": "p",
    "client_secret": "s",
    "accessToken": {"value": "t"},
    "API-Key": "k",
    "IBAN": "DE00",
    "idTagUid": "04",
    "visual_number": "1",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_secret_and_a_persons_data_are_hidden_at_any_depth(name: str) -> None:
    body = json.dumps({"data": [{**SEEN, name: HIDDEN[name]}]}).encode()
    shown = kept(replace(EXCHANGE, request_body=body, response_body=body), NOW)
    for text in (shown.request_body, shown.response_body):
        assert json.loads(text) == {"data": [{**SEEN, name: "***"}]}


def test_what_the_contract_calls_personal_is_hidden_under_its_name_alone() -> None:
    body = b'{"uid":"0425","valid":true,"tokens":[{"uid":"0426","evse_uid":"E1"}]}'
    shown = kept(replace(EXCHANGE, request_body=body, personal=frozenset({"uid"})), NOW).request_body
    assert shown == '{"uid":"***","valid":true,"tokens":"***"}'
    other = kept(replace(EXCHANGE, request_body=b'{"evses":[{"uid":"E1"}]}'), NOW).request_body
    assert other == '{"evses":[{"uid":"E1"}]}'


def test_headers_and_queries_are_hidden_by_name_too() -> None:
    exchange = replace(
        EXCHANGE,
        url="https://p.example/users?filter%5Bemail%5D=a%40b.example&api_key=k&q=a%2Fb&empty=",
        request_headers={"Authorization": "Bearer t", "Accept": "application/json"},
        response_headers={"Set-Cookie": "s=1", "X-Long": "x" * 1000, "X-Latin": "caf\udce9"},
    )
    shown = kept(exchange, NOW)
    assert shown.url == "https://p.example/users?filter%5Bemail%5D=***&api_key=***&q=a%2Fb&empty="
    assert dict(shown.request_headers) == {"Authorization": "***", "Accept": "application/json"}
    assert dict(shown.response_headers) == {"Set-Cookie": "***", "X-Long": "x" * 256, "X-Latin": "caf?"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", ""),
        (b"null", "null"),
        (b'{"email": null, "phone": ""}', '{"email":null,"phone":""}'),
        (b"a@b.example", "(11 bytes that are not JSON)"),
        (b"\xff", "(1 bytes that are not JSON)"),
        (b"[" * 100_000, "(100000 bytes that are not JSON)"),
        (b" " * (1 << 19), "(524288 bytes)"),
        (b'"\\ud800"', '"?"'),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_body_without_names_is_told_by_its_size(body: bytes, text: str) -> None:
    assert kept(replace(EXCHANGE, response_body=body), NOW).response_body == text


def test_a_long_body_ends_after_4_kib_of_whole_characters() -> None:
    shown = kept(replace(EXCHANGE, response_body=json.dumps("ü" * 5000).encode()), NOW).response_body
    assert MAX_TEXT - 2 < len(shown.encode()) <= MAX_TEXT


def test_the_start_is_the_end_less_the_duration() -> None:
    shown = kept(EXCHANGE, NOW)
    assert (shown.start_time.ToJsonString(), shown.duration.ToJsonString()) == ("2025-12-31T23:59:59.500Z", "0.500s")
    assert shown.operation == "evbridge.partner.p.v1.Users/Create"
