"""How often a caller may call."""

import random

import pytest

from service.domain.caller import Caller, Limits
from service.errors import RateLimited
from service.identity import access
from service.identity.access import Rates


def caller(calls_per_minute: int, actor: str = "key") -> Caller:
    return Caller("acme", actor, 1, limits=Limits(calls_per_minute=calls_per_minute))


@pytest.mark.parametrize("limit", [1, 6, 7, 600])
def test_a_caller_that_never_waits_gets_its_rate_and_one_burst(limit: int) -> None:
    now, rng = 1000.0, random.Random(limit)
    rates, served, minutes = Rates(0, lambda: now), 0, 3
    while now < 1000 + 60 * minutes:
        try:
            rates.take(caller(limit))
            served += 1
        except RateLimited as refused:
            assert refused.retry_after_s is not None
            assert 0 < refused.retry_after_s <= max(10, 60 / limit)
        now += rng.random() * 2 / limit
    burst = max(limit // 6, 1)
    assert limit * minutes * 0.95 <= served <= limit * minutes + burst + 1


def test_after_the_pause_that_it_is_told_a_call_is_served() -> None:
    now = 0.0
    rates = Rates(90, lambda: now)
    for _ in range(200):
        try:
            rates.take(caller(0))
        except RateLimited as refused:
            with pytest.raises(RateLimited):
                rates.take(caller(0))
            now += (refused.retry_after_s or 0) + 1e-9
            rates.take(caller(0))


def test_a_bucket_is_one_callers_of_one_tenant() -> None:
    rates = Rates(1, lambda: 0.0)
    for each in (caller(0), caller(0, "other"), Caller("other", "key", 1)):
        rates.take(each)
        with pytest.raises(RateLimited):
            rates.take(each)


def test_a_million_callers_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_MAX_BUCKETS", 100)
    now = 0.0
    rates = Rates(1, lambda: now)
    for number in range(10_000):
        rates.take(caller(0, str(number)))
        now += number % 2  # some fill up meanwhile
        assert len(rates._full_at) <= 100
    with pytest.raises(RateLimited):
        rates.take(caller(0, str(number)))
