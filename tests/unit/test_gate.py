"""Slices of a budget and the counts of a breaker."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.breaker import Breaker
from service.domain.budget import Slice, slice_of


@given(st.integers(1, 3000), st.integers(1, 5), st.data())
def test_processes_together_get_the_limit_and_no_more(limit: int, processes: int, data: st.DataObject) -> None:
    slices = [Slice() for _ in range(processes)]
    used = sent = 0
    while any(not each.used_up for each in slices):
        each = data.draw(st.sampled_from([slice for slice in slices if not slice.used_up]))
        used += slice_of(limit)
        each.take(slice_of(limit), used, limit, end=60.0)
        sent += each.left
        each.left = 0
    assert sent == limit


def test_a_slice_lapses_with_its_window() -> None:
    slice = Slice()
    assert not slice.is_open(0.0)
    slice.take(50, 50, 1000, end=60.0)
    assert slice.is_open(59.9)
    assert not slice.is_open(60.0)
    assert slice.closed_s(1000, 60.0) == 0.0


def test_a_used_up_window_is_closed_until_it_ends() -> None:
    slice = Slice()
    slice.take(50, 1050, 1000, end=60.0)
    assert not slice.is_open(10.0)
    assert [slice.closed_s(1000, now) for now in (10.0, 60.0)] == [50.0, 0.0]


def test_a_raised_limit_opens_a_used_up_window() -> None:
    slice = Slice()
    slice.take(50, 1050, 1000, end=60.0)
    assert [slice.closed_s(limit, 10.0) for limit in (999, 1000, 1001)] == [50.0, 50.0, 0.0]


def outcomes(breaker: Breaker, text: str, now: float = 0.0) -> list[bool]:
    return [breaker.opens(letter == "x", now) for letter in text]


def test_five_failures_in_a_row_open() -> None:
    assert outcomes(Breaker(), "xxxx.xxxxx") == [False] * 9 + [True]


def test_half_of_twenty_outcomes_open() -> None:
    assert outcomes(Breaker(), ".x" * 10) == [False] * 19 + [True]
    assert not any(outcomes(Breaker(), "..x" * 30))


def test_a_success_never_opens() -> None:
    assert not any(outcomes(Breaker(), "x." * 9 + "xx"[:1] + "."))


def test_failures_of_another_minute_do_not_count_towards_the_half() -> None:
    breaker = Breaker()
    assert not any(outcomes(breaker, ".x" * 9, now=0.0))
    assert not any(outcomes(breaker, ".x" * 9, now=60.0))


def test_the_counts_begin_anew_once_open() -> None:
    breaker = Breaker()
    outcomes(breaker, "xxxxx")
    assert not any(outcomes(breaker, "xxxx"))
