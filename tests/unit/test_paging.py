"""Where the next page of an OCPI list is, for partners that page as they like."""

import random
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.partners.ocpi.paging import MAX_EMPTY, Paging, total_count

Partner = Callable[[list[int], int, int], str]
"""(list, offset, end) -> Link."""

PARTNERS: dict[str, Partner] = {
    "Link": lambda of, offset, end: f"https://p/x?limit=9&offset={end}" if end < len(of) else "",
    "no Link": lambda of, offset, end: "",
    "a Link after the last page": lambda of, offset, end: f"/x?offset={end}",
    "a Link to itself": lambda of, offset, end: f"/x?offset={offset}",
    "a Link to the beginning": lambda of, offset, end: "/x?offset=0",
}


def read(
    partner: Partner, of: list[int], size: int, told: str = "", change: Callable[[], None] = lambda: None
) -> tuple[list[int], str]:
    """What is read of a list, and why it may not be all."""
    paging, link, total, shown, problem = Paging({"limit": "100"}), "", 0, list[int](), ""
    for _ in range(1000):
        offset = int(dict(parse_qsl(urlsplit(link).query)).get("offset", "0"))
        page, before = of[offset : offset + size], total
        total = total_count(told or str(len(of)))
        shown += page
        following = paging.after(
            link, [{"id": str(each)} for each in page], partner(of, offset, offset + len(page)), total, before
        )
        problem = problem or following.problem
        if not (link := following.link):
            return shown, problem
        change()
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("partner", PARTNERS.values(), ids=PARTNERS)
@given(count=st.integers(0, 60), size=st.integers(1, 20))
def test_every_object_is_read_once_and_the_list_ends(partner: Partner, count: int, size: int) -> None:
    assert read(partner, [*range(count)], size) == ([*range(count)], "")


@pytest.mark.parametrize("partner", PARTNERS.values(), ids=PARTNERS)
@given(count=st.integers(0, 60), size=st.integers(1, 20), told=st.sampled_from(["0", "3", "59", "1000", "-1", "x"]))
def test_whatever_the_total_says_the_list_ends(partner: Partner, count: int, size: int, told: str) -> None:
    shown, _ = read(partner, [*range(count)], size, told)
    assert shown == [*range(len(shown))]


@given(seed=st.integers(0, 2**32), size=st.integers(2, 20), linked=st.booleans())
def test_of_a_list_that_shrinks_nothing_that_stays_is_skipped(seed: int, size: int, linked: bool) -> None:
    chance, of = random.Random(seed), [*range(60)]

    def change() -> None:
        if len(of) > 30:
            del of[chance.randrange(len(of))]

    shown, problem = read(PARTNERS["Link" if linked else "no Link"], of, size, change=change)
    assert {*of} <= {*shown}
    assert len({*shown}) == 60 or problem


def test_pages_without_objects_are_followed_for_a_while() -> None:
    paging, link, links = Paging({}), "/x?cursor=0", 0
    while link:
        links += 1
        link = paging.after(link, [], f"/x?cursor={links}", 0, 0).link
    assert links == MAX_EMPTY


def test_the_same_page_again_is_the_end() -> None:
    paging = Paging({})
    assert paging.after("", [{"id": "1"}], "/x?cursor=a", 9, 0) == ("/x?cursor=a", "")
    assert paging.after("/x?cursor=a", [{"id": "1"}], "/x?cursor=b", 9, 9) == ("", "the same page came again")
