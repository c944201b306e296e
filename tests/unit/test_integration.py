"""The contract of integrations keeps its own conventions, for every type."""

from itertools import product

import pytest
from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import Integration, IntegrationType
from google.api.field_behavior_pb2 import OUTPUT_ONLY, field_behavior

from service.domain.integration import type_name
from service.domain.validation import validate
from service.errors import InvalidArgument
from tests.front_door import CONNECTIONS

MEMBERS = [*Integration.DESCRIPTOR.oneofs_by_name["connection"].fields]


def test_every_type_has_the_connection_of_its_name() -> None:
    types = [type_name(number) for number in IntegrationType.values() if number]
    assert sorted(types) == sorted(member.name for member in MEMBERS) == sorted(CONNECTIONS)


@pytest.mark.parametrize(("type", "connection"), [*product(CONNECTIONS, CONNECTIONS)])
def test_only_the_connection_of_its_name_goes_with_a_type(type: str, connection: str) -> None:
    integration = Integration(type=f"INTEGRATION_TYPE_{type.upper()}", **{connection: CONNECTIONS[connection]})
    if type == connection:
        validate(integration)
    else:
        with pytest.raises(InvalidArgument, match=f"takes the connection {type}, and this one is {connection}"):
            validate(integration)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_a_connection_marks_its_addresses_and_tells_of_its_secrets(member: object) -> None:
    fields = {field.name: field for field in member.message_type.fields}  # type: ignore[attr-defined]
    urls = {name for name, field in fields.items() if field.GetOptions().Extensions[options.url]}
    secrets = {name for name, field in fields.items() if field.GetOptions().Extensions[options.secret]}
    told = {name for name in fields if name.endswith("_set")}
    assert urls == {name for name in fields if name.endswith("_url") and not name.startswith("partner_")} != set()
    assert {f"{name}_set" for name in secrets} <= told
    assert secrets
    for name in told:
        assert OUTPUT_ONLY in fields[name].GetOptions().Extensions[field_behavior]
    for name in fields:
        if {"secret", "token", "key"} & {*name.split("_")}:
            assert name in secrets | urls | told
