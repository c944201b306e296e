"""TokenService through the front door."""

from typing import Any

import grpc
import pytest
from evbridge.v1.location_pb2 import TOKEN_TYPE_APP_USER, TOKEN_TYPE_RFID
from evbridge.v1.party_pb2 import CreatePartyRequest, DeletePartyRequest
from evbridge.v1.token_pb2 import (
    WHITELIST_TYPE_NEVER,
    BatchGetTokensRequest,
    BatchUpsertTokensRequest,
    CreateTokenRequest,
    DeleteTokenRequest,
    GetTokenRequest,
    ListTokensRequest,
    Token,
    TokenKey,
    UpdateTokenRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Tenant
from tests.filled import filled, unset
from tests.front_door import a_party, a_token, fails

Code = grpc.StatusCode


@pytest.fixture
async def party(tenant: Tenant) -> Tenant:
    """A tenant that is the party DE*ABC."""
    await tenant.admin.parties.CreateParty(CreatePartyRequest(party=a_party()))
    return tenant


def key(token: Token, **changes: Any) -> TokenKey:
    names = {"country_code": token.country_code, "party_id": token.party_id, "uid": token.uid, "type": token.type}
    return TokenKey(**{**names, **changes})


async def create(tenant: Tenant, **changes: Any) -> Token:
    return await tenant.writer.tokens.CreateToken(CreateTokenRequest(token=a_token(**changes)))


async def get(tenant: Tenant, key: TokenKey) -> Token:
    return await tenant.reader.tokens.GetToken(GetTokenRequest(key=key))


async def listed(tenant: Tenant, **filters: Any) -> list[str]:
    response = await tenant.reader.tokens.ListTokens(ListTokensRequest(**filters))
    return [token.uid for token in response.tokens]


VALUES = {
    "evbridge.v1.Token.integration_id": None,  # ours
    "evbridge.v1.Token.country_code": "DE",
    "evbridge.v1.Token.party_id": "ABC",
    "evbridge.v1.Token.language": "en",
}


async def test_every_field_is_stored_and_comes_back(party: Tenant) -> None:
    sent = filled(Token.DESCRIPTOR, VALUES)
    stored = await party.writer.tokens.CreateToken(CreateTokenRequest(token=sent))
    assert list(unset(stored)) == ["integration_id"]
    got = await get(party, key(sent))
    assert got == stored
    for name in ("create_time", "last_updated", "etag"):
        got.ClearField(name)
    assert got == sent


async def test_a_uid_ignores_case_and_names_one_token_per_type(party: Tenant) -> None:
    card = await create(party, uid="04aB", country_code="de", party_id="abc")
    app = await create(party, uid="04AB", type=TOKEN_TYPE_APP_USER)
    assert (card.country_code, card.party_id, card.uid) == ("DE", "ABC", "04aB")
    assert await get(party, key(card, uid="04ab", type=0)) == card, "RFID unless it says otherwise"
    assert await get(party, key(app)) == app
    assert (await fails(create(party, uid="04ab"))).reason == "RESOURCE_EXISTS"
    both = BatchGetTokensRequest(keys=[key(app), key(card)])
    assert list((await party.reader.tokens.BatchGetTokens(both)).tokens) == [app, card]


async def test_it_is_made_invalid_and_deleted(party: Tenant) -> None:
    card = await create(party)
    request = UpdateTokenRequest(
        token=Token(country_code="DE", party_id="ABC", uid=card.uid, type=TOKEN_TYPE_RFID, valid=False),
        update_mask=FieldMask(paths=["valid"]),
    )
    changed = await party.writer.tokens.UpdateToken(request)
    assert (changed.valid, changed.contract_id) == (False, card.contract_id)
    in_use = await fails(party.admin.parties.DeleteParty(DeletePartyRequest(country_code="DE", party_id="ABC")))
    assert (in_use.reason, in_use.metadata["tokens"]) == ("PARTY_IN_USE", "1")
    delete = DeleteTokenRequest(key=key(card), etag=card.etag)
    assert (await fails(party.writer.tokens.DeleteToken(delete))).reason == "ETAG_MISMATCH"
    await party.writer.tokens.DeleteToken(DeleteTokenRequest(key=key(card)))
    assert (await fails(get(party, key(card)))).code is Code.NOT_FOUND
    assert (await create(party, uid=card.uid)).valid


async def test_a_batch_takes_each_on_its_own(party: Tenant) -> None:
    request = BatchUpsertTokensRequest(
        tokens=[a_token(uid="A"), a_token(uid="B", party_id="XYZ"), a_token(uid="C", contract_id="")],
        allow_missing=True,
    )
    results = (await party.writer.tokens.BatchUpsertTokens(request)).results
    assert [result.WhichOneof("outcome") for result in results] == ["token", "error", "error"]
    assert await listed(party) == ["A"]


async def test_lists_find_what_a_billing_team_looks_for(party: Tenant) -> None:
    await create(party, uid="A", contract_id="DE-ABC-1", group_id="G1")
    await create(party, uid="B", contract_id="de-abc-1", valid=False)
    await create(party, uid="C", type=TOKEN_TYPE_APP_USER, whitelist=WHITELIST_TYPE_NEVER)
    assert await listed(party) == ["C", "A", "B"]
    assert await listed(party, contract_id="DE-ABC-1") == ["A", "B"]
    assert await listed(party, group_id="g1") == ["A"]
    assert await listed(party, valid=False) == ["B"]
    assert await listed(party, type=TOKEN_TYPE_APP_USER) == await listed(party, whitelist=WHITELIST_TYPE_NEVER) == ["C"]
    assert await listed(party, party_id="abc", country_code="de", valid=True) == ["C", "A"]
    page = await party.reader.tokens.ListTokens(ListTokensRequest(page_size=2))
    rest = ListTokensRequest(page_size=2, page_token=page.next_page_token)
    assert [token.uid for token in (await party.reader.tokens.ListTokens(rest)).tokens] == ["B"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"uid": ""}, "token.uid"),
        ({"uid": "ü"}, "token.uid"),
        ({"type": 0}, "token.type"),
        ({"contract_id": ""}, "token.contract_id"),
        ({"contract_id": "x" * 37}, "token.contract_id"),
        ({"issuer": ""}, "token.issuer"),
        ({"valid": None}, "token.valid"),
        ({"whitelist": 0}, "token.whitelist"),
        ({"language": "deu"}, "token.language"),
    ],
)
async def test_what_is_wrong_is_named(party: Tenant, changes: dict[str, Any], path: str) -> None:
    failure = await fails(create(party, **changes))
    assert (failure.code, failure.reason, [*failure.violations]) == (Code.INVALID_ARGUMENT, "INVALID_FIELD", [path])
