"""Our Company as Chargeprice's document, and the comparison that decides whether a delivery is done."""

import json
from collections.abc import Callable

import pytest
from evbridge.partner.chargeprice.v1.company_pb2 import CompanyDocument, CompanyResource
from evbridge.v1.company_pb2 import Company

from service.bridge.codec import compile_codec
from service.bridge.ports import Refusal
from service.partners.chargeprice import mapping as chargeprice

ID, EMP, OTHER = (f"{n}e49b853-36fc-47ed-9826-97828b5b2fdd" for n in (1, 2, 3))
CODEC = compile_codec(CompanyDocument.DESCRIPTOR, field_names=True)


def company(**fields: object) -> Company:
    return Company(**{"id": ID, "name": "EnBW", "is_cpo": True, "is_emp": False, **fields})  # type: ignore[arg-type]


def wire(company: Company, version: int = 1) -> dict[str, dict[str, dict[str, object]]]:
    data: dict[str, dict[str, dict[str, object]]] = json.loads(CODEC.encode(chargeprice.document(company, version)))
    return data


def test_a_bare_company_says_all_that_is_required_there() -> None:
    assert wire(company(), 7) == {
        "data": {
            "id": ID,
            "type": "company",
            "attributes": {
                "name": "EnBW",
                "version": 7,
                "is_cpo": True,
                "is_emp": False,
                "external_source_mapping": {},
            },
            "relationships": {"supported_emps": {"data": []}},
        }
    }


def test_every_list_of_the_mapping_travels() -> None:
    lists = {field.name: [f"{field.name}-1", "b"] for field in Company().external_source_mapping.DESCRIPTOR.fields}
    assert len(lists) == 6
    sent = wire(company(external_source_mapping=lists))
    assert sent["data"]["attributes"]["external_source_mapping"] == lists


@pytest.mark.parametrize("group", ["cpo_group", "emp_group"])
def test_a_group_is_left_alone_cleared_or_set(group: str) -> None:
    assert group not in wire(company())["data"]["relationships"]
    assert wire(company(**{f"{group}_id": ""}))["data"]["relationships"][group] == {"data": None}
    named = {"data": {"type": "company", "id": OTHER}}
    assert wire(company(**{f"{group}_id": OTHER}))["data"]["relationships"][group] == named


def full() -> Company:
    return company(
        url="https://www.enbw.de",
        external_source_mapping={"going_electric_names": ["EnBW", "EnBW mobility+"]},
        supported_emp_ids=[EMP, OTHER],
        cpo_group_id=OTHER,
        emp_group_id="",
    )


def held(change: Callable[[CompanyResource], object] = lambda _: None) -> CompanyResource:
    """What the partner holds after it took `full()`, and `change`."""
    resource = CompanyResource()
    resource.CopyFrom(chargeprice.document(full(), 4).data)
    resource.attributes.created_at = 1546297200000
    resource.attributes.updated_at = 1546297200001
    resource.attributes.more["founded"] = 1997
    resource.attributes.external_source_mapping.more["other_ids"] = None
    resource.relationships.more["brand"] = "x"
    resource.more["links"] = "x"
    change(resource)
    return resource


SAME: dict[str, Callable[[CompanyResource], object]] = {
    "nothing": lambda _: None,
    "version": lambda r: setattr(r.attributes, "version", 9),
    "times": lambda r: setattr(r.attributes, "updated_at", 1),
    "unknown attribute": lambda r: r.attributes.ClearField("more"),
    "null group absent": lambda r: r.relationships.ClearField("emp_group"),
    "order of providers": lambda r: r.relationships.supported_emps.data.reverse(),
    "order of names": lambda r: r.attributes.external_source_mapping.going_electric_names.reverse(),
}
DIFFERENT: dict[str, Callable[[CompanyResource], object]] = {
    "name": lambda r: setattr(r.attributes, "name", "EnBW AG"),
    "url": lambda r: setattr(r.attributes, "url", "https://example.com"),
    "url gone": lambda r: r.attributes.ClearField("url"),
    "role": lambda r: setattr(r.attributes, "is_emp", True),
    "one name less": lambda r: r.attributes.external_source_mapping.going_electric_names.pop(),
    "mapping gone": lambda r: r.attributes.ClearField("external_source_mapping"),
    "a list we sent as absent": lambda r: r.attributes.external_source_mapping.plugsurfing_ids.append("7"),
    "one provider more": lambda r: r.relationships.supported_emps.data.add(type="company", id=ID),
    "providers gone": lambda r: r.relationships.ClearField("supported_emps"),
    "other group": lambda r: setattr(r.relationships.cpo_group.data, "id", EMP),
    "group gone": lambda r: r.relationships.ClearField("cpo_group"),
    "group we cleared": lambda r: setattr(r.relationships.emp_group.data, "id", EMP),
    "other company": lambda r: setattr(r, "id", OTHER),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_a_partner_that_holds_the_same_content_carries_it(change: Callable[[CompanyResource], object]) -> None:
    sent = chargeprice.document(full(), 4)
    assert chargeprice.carries(held(change), sent)
    assert chargeprice.comparable(held(change)) == chargeprice.comparable(sent)


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_a_partner_that_holds_anything_else_does_not(change: Callable[[CompanyResource], object]) -> None:
    sent = chargeprice.document(full(), 4)
    assert not chargeprice.carries(held(change), sent)
    assert chargeprice.comparable(held(change)) != chargeprice.comparable(sent)


def test_what_was_not_sent_may_be_anything_at_the_partner() -> None:
    sent = chargeprice.document(company(), 2)
    current = CompanyDocument()
    current.CopyFrom(sent)
    current.data.attributes.url = "https://www.enbw.de"
    current.data.relationships.cpo_group.data.id = OTHER
    current.data.relationships.emp_group.data.id = OTHER
    assert chargeprice.carries(current, sent)
    assert chargeprice.comparable(current) != chargeprice.comparable(sent)


def test_a_bare_answer_equals_an_empty_company() -> None:
    bare = CompanyResource(id=ID, type="company", attributes={"name": "EnBW", "is_cpo": True, "is_emp": False})
    assert chargeprice.carries(bare, chargeprice.document(company(), 1))


def test_comparing_leaves_both_sides_as_they_are() -> None:
    current, sent = held(), chargeprice.document(full(), 4)
    before = current.SerializeToString(deterministic=True), sent.SerializeToString(deterministic=True)
    chargeprice.carries(current, sent)
    assert before == (current.SerializeToString(deterministic=True), sent.SerializeToString(deterministic=True))


@pytest.mark.parametrize(
    ("body", "explained"),
    [
        (b'{"errors": [{"status": "409", "code": "CONFLICT", "title": "Conflict"}]}', ("CONFLICT", "Conflict")),
        (b'{"errors": [{"code": "FIRST"}, {"code": "SECOND"}]}', ("FIRST", "")),
        (b'{"errors": [{"status": 500, "code": "X", "new_member": {}}]}', ("X", "")),
        (b'{"errors": [{"title": "older answers have no code"}]}', ("", "older answers have no code")),
        (b'{"errors": []}', ()),
        (b'\xef\xbb\xbf{"errors": {"0": {"code": 7}}}', ("7", "")),
        (b"", ()),
        (b"null", ()),
        (b"<html>", ()),
        (b"\xff", ()),
        (b"[" * 100_000, ()),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_an_error_body_is_explained_by_its_first_error(body: bytes, explained: tuple[str, ...]) -> None:
    assert chargeprice.explain(409, body) == Refusal(*explained)
