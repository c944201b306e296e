"""Partial updates: examples that read as the rule, and laws that hold for any message and mask."""

import pytest
from evbridge.v1.chargeprice_connection_pb2 import ChargepriceConnection
from evbridge.v1.company_pb2 import Company, ExternalSourceMapping
from evbridge.v1.integration_pb2 import Integration
from hypothesis import given
from hypothesis import strategies as st

from service.domain.masks import merged
from service.errors import InvalidArgument

STORED = Company(
    name="before",
    is_cpo=True,
    supported_emp_ids=["a", "b"],
    external_source_mapping=ExternalSourceMapping(plugsurfing_ids=["1"], google_sheet_names=["s"]),
)

CASES = {
    "no mask takes what is populated": (Company(name="after"), [], {"name": "after"}),
    "no mask merges sub-messages": (
        Company(external_source_mapping=ExternalSourceMapping(plugsurfing_ids=["2"])),
        [],
        {"external_source_mapping": ExternalSourceMapping(plugsurfing_ids=["2"], google_sheet_names=["s"])},
    ),
    "no mask replaces lists whole": (Company(supported_emp_ids=["c"]), [], {"supported_emp_ids": ["c"]}),
    "no mask takes a false that was set": (Company(is_cpo=False), [], {"is_cpo": False}),
    "a mask takes what it names": (Company(name="after", is_cpo=False), ["name"], {"name": "after"}),
    "a named field that is not set is cleared": (Company(), ["name"], {"name": ""}),
    "a named optional field that is not set is cleared": (Company(), ["is_cpo"], {"is_cpo": None}),
    "a named list that is empty is emptied": (Company(), ["supported_emp_ids"], {"supported_emp_ids": []}),
    "a named message is replaced whole": (
        Company(external_source_mapping=ExternalSourceMapping(plugsurfing_ids=["2"])),
        ["external_source_mapping"],
        {"external_source_mapping": ExternalSourceMapping(plugsurfing_ids=["2"])},
    ),
    "a path goes into a message": (
        Company(external_source_mapping=ExternalSourceMapping(plugsurfing_ids=["2"])),
        ["external_source_mapping.plugsurfing_ids"],
        {"external_source_mapping": ExternalSourceMapping(plugsurfing_ids=["2"], google_sheet_names=["s"])},
    ),
}


@pytest.mark.parametrize(("patch", "paths", "changes"), CASES.values(), ids=CASES)
def test_an_update(patch: Company, paths: list[str], changes: dict[str, object]) -> None:
    expected = Company()
    expected.CopyFrom(STORED)
    for name, value in changes.items():
        expected.ClearField(name)
        if value is not None:
            expected.MergeFrom(Company(**{name: value}))
    assert merged(STORED, patch, paths) == expected


def test_a_star_is_the_patch_and_stands_alone() -> None:
    assert merged(STORED, Company(name="after"), ["*"]) == Company(name="after")
    with pytest.raises(InvalidArgument):
        merged(STORED, Company(), ["*", "name"])


def test_a_path_into_a_message_that_neither_side_has_changes_nothing() -> None:
    assert merged(Company(name="x"), Company(), ["external_source_mapping.plugsurfing_ids"]) == Company(name="x")


def test_a_path_into_a_oneof_chooses_it() -> None:
    patch = Integration(chargeprice=ChargepriceConnection(base_url="u"))
    assert merged(Integration(), patch, ["chargeprice.base_url"]) == patch


@pytest.mark.parametrize("path", ["", "nothing", "name.x", "supported_emp_ids.x", "external_source_mapping.", ".name"])
def test_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        merged(STORED, STORED, [path])
    assert refused.value.violations[0].path == "update_mask"


TEXTS = st.text(max_size=3)
COMPANIES = st.builds(
    lambda **fields: Company(**{name: value for name, value in fields.items() if value is not None}),
    name=TEXTS,
    url=TEXTS,
    version=st.integers(0, 3),
    is_cpo=st.none() | st.booleans(),
    cpo_group_id=st.none() | TEXTS,
    supported_emp_ids=st.lists(TEXTS, max_size=2),
    external_source_mapping=st.none() | st.builds(ExternalSourceMapping, plugsurfing_ids=st.lists(TEXTS, max_size=2)),
)
PATHS = st.lists(st.sampled_from([field.name for field in Company.DESCRIPTOR.fields]), max_size=4)


@given(COMPANIES, COMPANIES, PATHS)
def test_the_named_fields_are_the_patchs_and_all_others_the_stored_ones(
    stored: Company, patch: Company, paths: list[str]
) -> None:
    result = merged(stored, patch, paths)
    if paths:
        for field in Company.DESCRIPTOR.fields:
            source = patch if field.name in paths else stored
            assert getattr(result, field.name) == getattr(source, field.name)
            if field.has_presence:
                assert result.HasField(field.name) == source.HasField(field.name)


@given(COMPANIES, COMPANIES, PATHS)
def test_an_update_applied_twice_is_applied_once_and_changes_no_argument(
    stored: Company, patch: Company, paths: list[str]
) -> None:
    before = stored.SerializeToString(deterministic=True), patch.SerializeToString(deterministic=True)
    once = merged(stored, patch, paths)
    assert merged(once, patch, paths) == once
    assert merged(once, once, paths) == once
    assert before == (stored.SerializeToString(deterministic=True), patch.SerializeToString(deterministic=True))
