"""Who has no known token may try a few times, and those beside them notice nothing."""

from functools import partial as applied

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import app
from service.ocpi import listener
from service.ocpi.tries import _MAX_ADDRESSES, _MAX_TOKENS, Tries
from tests.front_door import settings
from tests.ocpi.door import Partner, encoded, partner

__all__ = ["partner"]

STRANGER = encoded("evbo_" + 43 * "x")


async def test_an_address_has_a_few_tries_and_a_known_token_beside_it_any_number(
    shared_database_url: str, partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "REFUSAL_PAUSE_S", 0)
    monkeypatch.setattr(app, "Tries", applied(Tries, clock=lambda: 0.0))
    limited = settings(
        shared_database_url, delivery=False, ocpi_unknown_per_minute=3, ocpi_trusted_proxies="127.0.0.0/8"
    )
    async with app.evbridge(limited) as running, aiohttp.ClientSession() as http:

        async def ask(token: str, client: str) -> int:
            headers = {"Authorization": token} if token else {}
            async with http.get(
                f"{running.ocpi_url}/ocpi/versions", headers=headers | {"X-Forwarded-For": client}
            ) as answer:
                body = await answer.json()
                assert (body["status_code"] == 1000) == (answer.status == 200)
                assert ("Retry-After" in answer.headers) == (answer.status == 429)
                return answer.status

        assert await ask(partner.registered, "198.51.100.7") == 200
        tries = [await ask(token, "198.51.100.7") for token in (STRANGER, "", "Token nothing", STRANGER, "")]
        assert tries == [401, 401, 401, 429, 429]
        # One that was known goes on, from anywhere; one that never was does not, but for other addresses.
        assert [await ask(partner.registered, "198.51.100.7") for _ in range(5)] == [200] * 5
        assert await ask(partner.initial, "198.51.100.7") == 429
        assert await ask(partner.initial, "198.51.100.8") == 200
        assert await ask(partner.initial, "198.51.100.7") == 200
        assert await ask(STRANGER, "2001:db8::1") == 401
        # At a webhook the body says who calls: until it did, whoever calls is a stranger there, too.
        for status in (401, 401, 401, 429):
            url, headers = f"{running.ocpi_url}/ampeco/none/am/notifications", {"X-Forwarded-For": "198.51.100.9"}
            async with http.post(url, data=b"{}", headers=headers) as answer:
                assert answer.status == status


def test_tries_come_back_with_time() -> None:
    now = 0.0
    tries = Tries(60, lambda: now)
    assert [tries.admit("a", []) for _ in range(61)] == [True] * 60 + [False]
    now = 2.0
    assert [tries.admit("a", []) for _ in range(3)] == [True, True, False]
    now = 1e6
    assert sum(tries.admit("a", []) for _ in range(100)) == 60


def test_a_token_that_is_known_no_more_is_a_try_again() -> None:
    tries = Tries(1, lambda: 0.0)
    tries.told("a", [b"1", b"2"], known=True)
    assert all(tries.admit("a", [b"2"]) for _ in range(9))
    tries.told("a", [b"1", b"2"], known=False)
    assert [tries.admit("a", [b"2"]) for _ in range(2)] == [True, False]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([b"1", b"2"]), st.booleans()), max_size=60))
def test_no_address_has_more_tries_than_it_is_allowed(calls: list[tuple[str, bytes, bool]]) -> None:
    tries, failed = Tries(5, lambda: 0.0), dict.fromkeys("abc", 0)
    for client, digest, known in calls:
        if tries.admit(client, [digest]):
            tries.told(client, [digest], known=known)
            failed[client] += not known
    # A token that ends while it is known is found out once.
    assert all(count <= 5 + sum(known for _, _, known in calls) for count in failed.values())


def test_memory_is_bounded() -> None:
    tries = Tries(5, lambda: 0.0)
    for number in range(max(_MAX_ADDRESSES, _MAX_TOKENS) + 100):
        tries.admit(str(number), [])
        tries.told(str(number), [b"%d" % number], known=number % 2 == 0)
        tries.admit(str(number), [])
    assert len(tries._left) <= _MAX_ADDRESSES
    assert len(tries._known) <= _MAX_TOKENS
