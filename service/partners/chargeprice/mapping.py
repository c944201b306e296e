"""Chargeprice: its errors, and our Company as its JSON:API document. The contract says the rest."""

from evbridge.partner.chargeprice.v1.company_pb2 import CompanyDocument, CompanyResource, ErrorDocument, ToOne
from evbridge.v1.company_pb2 import Company

from service.bridge.codec import CodecError, compile_codec
from service.bridge.ports import Refusal

_TYPE = "company"
_errors = compile_codec(ErrorDocument.DESCRIPTOR, field_names=True, lenient=True)


def explain(status: int, body: bytes) -> Refusal:
    """The first error. Never raises."""
    try:
        document = _errors.decode(body).message
    except CodecError:
        return Refusal()
    return Refusal(document.errors[0].code, document.errors[0].title) if document.errors else Refusal()


def document(company: Company, version: int) -> CompanyDocument:
    """What PUT /v1/companies/{id} carries to bring `company` to the partner under the partner's lock `version`.

    An unset url or group is left out; a group that is "" is null, which clears it there.
    """
    sent = CompanyDocument()
    resource = sent.data
    resource.id, resource.type = company.id, _TYPE
    attributes = resource.attributes
    attributes.name, attributes.version = company.name, version
    attributes.is_cpo, attributes.is_emp = company.is_cpo, company.is_emp
    if company.url:
        attributes.url = company.url
    # Required there, so written even when empty.
    attributes.external_source_mapping.SetInParent()
    for listed, values in company.external_source_mapping.ListFields():
        getattr(attributes.external_source_mapping, listed.name).extend(values)
    resource.relationships.supported_emps.SetInParent()
    for id in company.supported_emp_ids:
        resource.relationships.supported_emps.data.add(type=_TYPE, id=id)
    if company.HasField("cpo_group_id"):
        _relate(resource.relationships.cpo_group, company.cpo_group_id)
    if company.HasField("emp_group_id"):
        _relate(resource.relationships.emp_group, company.emp_group_id)
    return sent


def _relate(relation: ToOne, id: str) -> None:
    relation.SetInParent()
    if id:
        relation.data.type, relation.data.id = _TYPE, id


def comparable(company: CompanyDocument | CompanyResource) -> CompanyResource:
    """The content alone, in one form: without lock version, times and what the contract does not know.

    An absent list is an empty one and a null group is none. The order of a list means nothing there.
    """
    content = CompanyResource()
    content.CopyFrom(company.data if isinstance(company, CompanyDocument) else company)
    attributes, relationships = content.attributes, content.relationships
    mapping, supported = attributes.external_source_mapping, relationships.supported_emps
    for name in ("version", "created_at", "updated_at"):
        attributes.ClearField(name)
    content.ClearField("more")
    for part in (attributes, mapping, relationships):
        part.ClearField("more")
        part.SetInParent()
    supported.SetInParent()
    for _, values in mapping.ListFields():
        values.sort()
    supported.data.sort(key=lambda emp: emp.id)
    for group in ("cpo_group", "emp_group"):
        if not getattr(relationships, group).HasField("data"):
            relationships.ClearField(group)
    return content


def carries(current: CompanyDocument | CompanyResource, sent: CompanyDocument) -> bool:
    """Whether the partner holds all that was sent. A url or group that was left out may be anything there."""
    held = comparable(current)
    if not sent.data.attributes.HasField("url"):
        held.attributes.ClearField("url")
    for group in ("cpo_group", "emp_group"):
        if not sent.data.relationships.HasField(group):
            held.relationships.ClearField(group)
    return held == comparable(sent)
