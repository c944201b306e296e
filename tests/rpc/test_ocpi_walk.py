"""A partner walks from door to door with bodies that nobody should send: each is refused, and nothing of it is kept."""

import json
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from evbridge.v1.party_pb2 import PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB, UpdatePartyRequest

from service.app import Evbridge
from tests.charged import a_cdr, a_cdr_token, a_session
from tests.conftest import Tenant
from tests.front_door import a_location, a_party, a_record, a_token
from tests.ocpi.door import VERSIONS, Ask, Partner, ask, partner, partner_of
from tests.rpc.test_ocpi_charged_received import OWNED, TIME, written
from tests.rpc.test_ocpi_received import companies

__all__ = ["ask", "partner"]

CARD = a_cdr_token(country_code="DE", party_id="ABC")
COMMANDS = ("START_SESSION", "STOP_SESSION", "RESERVE_NOW", "CANCEL_RESERVATION", "UNLOCK_CONNECTOR")
NO_JSON = ("nothing", "a part", "no UTF-8", "UTF-16", "deep lists", "deep objects", "not a number", "many digits")
LARGE = 1 << 24
"""More than is read."""


def doors(version: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, an object that is taken there) of whatever is sent to us."""
    place = a_location(**OWNED, last_updated=TIME)
    session = a_session(**OWNED, id="S1", cdr_token=CARD, location=place, last_updated=TIME)
    yield "PUT", f"emsp/{version}/sessions/NL/TNM/S1", written(session, version)
    yield "POST", f"emsp/{version}/cdrs", written(a_cdr(**OWNED, id="C1", cdr_token=CARD, last_updated=TIME), version)
    token = written(a_token(**OWNED, uid="U1", last_updated=TIME), version)
    yield "PUT", f"cpo/{version}/tokens/NL/TNM/U1", token
    for name in COMMANDS:
        command = {"response_url": "https://example.com", "token": token, "location_id": "L1", "session_id": "S1"}
        yield "POST", f"cpo/{version}/commands/{name}", command
    if version > "2.2":
        client = {"country_code": "NL", "party_id": "TNM", "role": "CPO", "status": "CONNECTED"}
        client["last_updated"] = "2026-01-01T00:00:00Z"
        yield "PUT", f"{version}/hubclientinfo/NL/TNM", client
        profile = {"charging_rate_unit": "A", "charging_profile_period": [{"start_period": 0, "limit": 1}]}
        yield "PUT", f"cpo/{version}/chargingprofiles/S1", {"charging_profile": profile, "response_url": "x"}
    if version > "2.3":
        yield (
            "POST",
            f"{version}/invoicereconciliation",
            written(a_record(**OWNED, id="R1", last_updated=TIME), version),
        )


def bodies(valid: dict[str, Any]) -> dict[str, bytes]:
    whole = json.dumps(valid).encode()
    members: dict[str, Any] = {
        "null": None,
        "list": [],
        "object": {},
        "true": True,
        "long": "x" * 5000,
        "low": -(10**30),
    }
    return {
        "nothing": b"",
        "no object": b"[]",
        "a part": whole[:-1],
        "no UTF-8": b"\xff\xfe\x00",
        "UTF-16": whole.decode().encode("utf-16"),
        "a member twice": b'{"id": "a", "id": "b"}',
        "deep lists": b"[" * 100_000,
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "not a number": b'{"kwh": NaN}',
        "many digits": b'{"kwh": %b}' % (b"9" * 5000),
        "a large exponent": b'{"kwh": 1e999999999}',
        "half a character": b'{"id": "\\ud800"}',
        "NUL": b'{"id": "a\\u0000b", "uid": "a\\u0000"}',
        "too much": b'{"x": "%b"}' % (b"a" * LARGE),
        **{
            f"all members are {name}": json.dumps(dict.fromkeys(valid, each)).encode() for name, each in members.items()
        },
    }


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_body_that_is_no_use_is_refused_at_every_door_and_nothing_of_it_is_kept(
    ask: Ask,
    partner: Partner,
    tenant: Tenant,
    running: Evbridge,
    new_tenant: Callable[[], Awaitable[Tenant]],
    version: str,
) -> None:
    all_roles = a_party(roles=[PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB])
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=all_roles))
    await companies(running, tenant, PARTY_ROLE_CPO, PARTY_ROLE_EMSP, PARTY_ROLE_HUB)
    for method, path, valid in doors(version):
        for name, body in bodies(valid).items():
            headers = {"Content-Type": "application/json"}
            answer = await ask(method, f"/ocpi/{path}", partner.registered, data=BytesIO(body), headers=headers)
            expected = (413,) if name == "too much" else (400,) if name in NO_JSON else (200,)
            if name == "all members are long":  # some doors look at whose it is first
                expected = (200, 404)
            assert answer.status in expected and answer.code // 1000 == 2, (path, name, answer)
    other = await partner_of(await new_tenant(), running)
    for method, path, valid in doors(version):
        if method == "PUT" and "chargingprofiles" not in path:
            assert (await ask("GET", f"/ocpi/{path}", partner.registered)).status == 404, path
            assert (await ask("PUT", f"/ocpi/{path}", partner.registered, json=valid)).status == 201, "the control"
            assert (await ask("GET", f"/ocpi/{path}", partner.registered)).status == 200
            assert (await ask("GET", f"/ocpi/{path}", other.registered)).status == 404


async def test_what_is_missing_is_called_as_the_version_calls_it(
    ask: Ask, partner: Partner, tenant: Tenant, running: Evbridge
) -> None:
    both = a_party(roles=[PARTY_ROLE_CPO, PARTY_ROLE_EMSP])
    await tenant.admin.parties.UpdateParty(UpdatePartyRequest(party=both))
    await companies(running, tenant, PARTY_ROLE_CPO, PARTY_ROLE_EMSP)
    names = {
        "sessions": {"2.1.1": ("start_datetime", "auth_id"), "2.2.1": ("start_date_time", "cdr_token")},
        "cdrs": {"2.1.1": ("stop_date_time", "auth_id", "location"), "2.2.1": ("end_date_time", "cdr_location")},
        "tokens": {"2.1.1": ("auth_id",), "2.2.1": ("contract_id",)},
    }
    for module, versions in names.items():
        for version, members in versions.items():
            (door,) = (each for each in doors(version) if f"/{module}" in each[1])
            method, path, valid = door
            for member in members:
                broken = {name: value for name, value in valid.items() if name != member}
                answer = await ask(method, f"/ocpi/{path}", partner.registered, json=broken)
                assert answer.code == 2001, (module, version, member)
                assert answer.body["status_message"].startswith(member), answer
