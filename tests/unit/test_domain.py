"""Pages, content hashes, secrets, versions and verdicts."""

import pickle

import pytest
from evbridge.options.v1.options_pb2 import ROLE_READER
from evbridge.v1.chargeprice_connection_pb2 import ChargepriceConnection
from evbridge.v1.company_pb2 import Company, ListCompaniesRequest, ListCompaniesResponse
from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.location_pb2 import Connector, Evse, Location
from hypothesis import given
from hypothesis import strategies as st

from service.domain.caller import Caller
from service.domain.content import content_hash, etag_of
from service.domain.delivery import Next, RetryPolicy, Streak, is_of_partner, verdict
from service.domain.fields import clear_output_only, keep_output_only, take_secrets
from service.domain.pages import MAX_BYTES, key_before, list_response, page_size, token_after
from service.domain.partner_error import (
    PartnerChanged,
    PartnerCredentialRefused,
    PartnerFault,
    PartnerNotFound,
    PartnerOutcomeUnknown,
    PartnerRateLimited,
    PartnerRejected,
    PartnerUnavailable,
    PartnerVersionConflict,
)
from service.domain.secret import Secret
from service.domain.versions import check_version
from service.errors import (
    DatabaseUnavailable,
    DeliveryUnfinished,
    EgressDenied,
    EvbridgeError,
    InvalidPageToken,
    TariffNotDelivered,
    TariffNotRepresentable,
    VersionConflict,
)

KEYS = st.text(min_size=1, max_size=40).filter(lambda key: "\0" not in key)


@given(KEYS, st.booleans())
def test_a_page_token_gives_its_key_back_to_the_same_filters_only(key: str, is_cpo: bool) -> None:
    request = ListCompaniesRequest(is_cpo=is_cpo, page_size=3)
    request.page_token = token_after(request, key)
    request.page_size = 99
    assert key_before(request) == key
    request.is_cpo = not is_cpo
    with pytest.raises(InvalidPageToken):
        key_before(request)


@given(st.text(max_size=60))
def test_no_text_is_taken_for_a_token_by_chance(text: str) -> None:
    request = ListCompaniesRequest(page_token=text)
    if text:
        with pytest.raises(InvalidPageToken):
            key_before(request)


@given(st.lists(st.text(min_size=1, max_size=300), max_size=5), st.integers(1, 5))
def test_a_framed_list_parses_to_what_was_framed(names: list[str], size: int) -> None:
    rows = [(str(number), Company(name=name).SerializeToString()) for number, name in enumerate(names)]
    request = ListCompaniesRequest()
    page = ListCompaniesResponse.FromString(list_response(request, rows, size))
    assert [company.name for company in page.companies] == names[:size]
    assert bool(page.next_page_token) == (len(names) > size)
    if page.next_page_token:
        assert key_before(ListCompaniesRequest(page_token=page.next_page_token)) == str(size - 1)


def test_a_page_that_reached_the_limit_in_bytes_has_a_next_one() -> None:
    page = ListCompaniesResponse.FromString(list_response(ListCompaniesRequest(), [("a", b"\x1a\x00" * MAX_BYTES)], 50))
    assert page.next_page_token


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_size_is_defaulted_and_capped(asked: int, given_: int) -> None:
    assert page_size(asked) == given_


def test_the_etag_follows_the_content_and_nothing_else() -> None:
    company = Company(name="a", version=1)
    etag = etag_of(company)
    company.etag = etag
    company.create_time.FromSeconds(5)
    assert etag_of(company) == etag
    assert etag_of(company, b"secret") != etag
    company.name = "b"
    assert etag_of(company) != etag
    assert len(content_hash(company)) == 16
    assert company.create_time.seconds == 5


def test_secrets_are_taken_out_with_their_paths_and_output_only_fields_are_cleared() -> None:
    integration = Integration(
        etag="kept", status=2, chargeprice=ChargepriceConnection(base_url="u", api_key="hunter2", api_key_set=True)
    )
    secrets = take_secrets(integration)
    assert {path: secret.reveal() for path, secret in secrets.items()} == {"chargeprice.api_key": "hunter2"}
    clear_output_only(integration)
    assert integration == Integration(etag="kept", chargeprice=ChargepriceConnection(base_url="u"))
    assert take_secrets(integration) == {}


def test_output_only_fields_are_kept_from_what_was_before_wherever_both_have_the_message() -> None:
    before = Integration(
        etag="old", status=2, latest_run_id="r", chargeprice=ChargepriceConnection(base_url="u", api_key_set=True)
    )
    integration = Integration(status=4, status_description="new", chargeprice=ChargepriceConnection(base_url="v"))
    keep_output_only(integration, before)
    connection = ChargepriceConnection(base_url="v", api_key_set=True)
    assert integration == Integration(status=2, latest_run_id="r", chargeprice=connection)
    without = Integration()
    keep_output_only(without, before)
    assert without == Integration(status=2, latest_run_id="r")


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hunter2")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", repr([secret]), repr({"key": secret})]
    assert not any("hunter2" in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == "hunter2"
    assert not Secret("")


@given(st.integers(1, 2**31 - 1), st.integers(0, 2**31 - 2))
def test_only_the_version_that_follows_is_taken(sent: int, current: int) -> None:
    if sent == current + 1:
        check_version(sent, current)
    else:
        with pytest.raises(VersionConflict):
            check_version(sent, current)


POLICY = RetryPolicy(base_s=1.0, cap_s=300.0, max_attempts=3)
PARTNER = {"partner": "p"}
VERDICTS = {
    # error: what happens after the 1st failure, after the last one at a partner that takes other objects, and after any
    # at one that takes nothing.
    PartnerUnavailable("", **PARTNER): (Next.PAUSE, Next.PAUSE, Next.PAUSE),
    PartnerRateLimited("", **PARTNER): (Next.PAUSE, Next.PAUSE, Next.PAUSE),
    PartnerCredentialRefused("", **PARTNER): (Next.PAUSE, Next.PAUSE, Next.PAUSE),
    EgressDenied(""): (Next.PAUSE, Next.PAUSE, Next.PAUSE),
    PartnerOutcomeUnknown("", **PARTNER): (Next.RETRY, Next.PARK, Next.PAUSE),
    PartnerFault("", **PARTNER): (Next.RETRY, Next.PARK, Next.PAUSE),
    PartnerFault("", **PARTNER, http_status=520): (Next.RETRY, Next.PARK, Next.PAUSE),
    PartnerFault("", **PARTNER, http_status=501): (Next.PARK, Next.PARK, Next.PAUSE),
    PartnerVersionConflict("", **PARTNER): (Next.RETRY, Next.PARK, Next.PAUSE),
    PartnerNotFound("", **PARTNER): (Next.RETRY, Next.PARK, Next.PAUSE),
    PartnerRejected("", **PARTNER): (Next.PARK, Next.PARK, Next.PAUSE),
    PartnerChanged("", **PARTNER): (Next.PARK, Next.PARK, Next.PARK),
    TariffNotRepresentable(""): (Next.PARK, Next.PARK, Next.PARK),
    TariffNotDelivered(""): (Next.WAIT, Next.WAIT, Next.WAIT),
    DeliveryUnfinished(""): (Next.RETRY, Next.RETRY, Next.RETRY),
    DatabaseUnavailable(""): (Next.RETRY, Next.RETRY, Next.RETRY),
    EvbridgeError(""): (Next.RETRY, Next.PARK, Next.PARK),
}


@pytest.mark.parametrize(("error", "expected"), VERDICTS.items(), ids=lambda value: type(value).__name__)
def test_a_failure_is_judged(error: EvbridgeError, expected: tuple[Next, Next, Next]) -> None:
    first = verdict(error, 1, Streak(), POLICY)
    last = verdict(error, 3, Streak(failures=1, alike=1, proven=True), POLICY)
    outage = verdict(error, 1000, Streak(failures=2000, alike=3), POLICY)
    assert (first.next, last.next, outage.next) == expected


@given(st.sampled_from([*VERDICTS]), st.integers(1, 100), st.integers(1, 100), st.integers(1, 100))
def test_no_answer_of_a_partner_that_takes_nothing_wears_an_object_out(
    error: EvbridgeError, failed_attempts: int, failures: int, alike: int
) -> None:
    judged = verdict(error, failed_attempts, Streak(failures, alike), POLICY)
    if judged.next is Next.PARK:
        assert verdict(error, 1, Streak(), POLICY).next is Next.PARK or not is_of_partner(error)
    elif is_of_partner(error):
        assert not judged.counts


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_grows_to_its_cap_and_is_never_less_than_half_of_it(failures: int, jitter: float) -> None:
    full = min(300.0, 2.0 ** min(failures - 1, 40))
    assert full / 2 <= POLICY.backoff_s(failures, jitter) <= full


def test_output_only_fields_are_cleared_inside_lists_too() -> None:
    location = Location(name="n", evses=[Evse(uid="E1", connectors=[Connector(id="1")])])
    (evse,) = location.evses
    for part in (location, evse, evse.connectors[0]):
        part.last_updated.FromSeconds(1)
    clear_output_only(location)
    assert location == Location(name="n", evses=[Evse(uid="E1", connectors=[Connector(id="1")])])


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.7:50123", "192.0.2.7"),
        ("ipv6:%5B2001:db8::7%5D:50123", "2001:db8::7"),
        ("ipv6:[fe80::1%25eth0]:50123", "fe80::1%eth0"),
        ("unix:/run/evbridge.sock", ""),
    ],
)
def test_a_caller_has_the_address_that_its_call_came_from(peer: str, address: str) -> None:
    caller = Caller("acme", "a1b2c3d4", ROLE_READER, trailers=[("evbridge-rejected", "1")])
    assert caller.of_call(peer) == Caller("acme", "a1b2c3d4", ROLE_READER, address)
