"""Every field of an integration acts, or its comment says "stored only": each is changed, and what follows compared."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_CDR, OBJECT_KIND_LOCATION, OBJECT_KIND_SESSION, OBJECT_KIND_TARIFF
from evbridge.v1.delivery_pb2 import OBJECT_KIND_HUB_CLIENT as HUB_CLIENT
from evbridge.v1.delivery_pb2 import OBJECT_KIND_INVOICE_RECONCILIATION_RECORD as INVOICE
from evbridge.v1.delivery_pb2 import OBJECT_KIND_TOKEN as TOKEN
from evbridge.v1.emabler_connection_pb2 import EMABLER_API_VERSION_V1, EMABLER_API_VERSION_V2
from evbridge.v1.integration_pb2 import CreateIntegrationRequest, Integration
from evbridge.v1.ocpi_connection_pb2 import VersionDetails
from google.api.field_behavior_pb2 import OUTPUT_ONLY, field_behavior
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from service.app import Evbridge
from service.errors import EndpointMissing
from service.partners.ampeco.mapping_tariff import billing_of
from service.partners.ocpi.delivery import Pushes
from service.partners.ocpi.party import check_pulled
from service.partners.ocpi.reach import Reached
from service.storage.statements import Statement
from service.storage.target import IntegrationTargets
from tests.conftest import Tenant
from tests.filled import filled
from tests.front_door import CONNECTIONS, an_integration_of
from tests.rpc.test_integration import VALUES, party

__all__ = ["party"]

ROOT = Path(__file__).parents[2]
KINDS = (OBJECT_KIND_LOCATION, OBJECT_KIND_TARIFF, OBJECT_KIND_SESSION, OBJECT_KIND_CDR, TOKEN, INVOICE, HUB_CLIENT)
ROW = Statement(
    "row",
    "SELECT enabled, parties, takes, pull_minutes, platform_integration_id, platform_party FROM integration"
    " WHERE tenant_id = $1 AND integration_id = $2",
)
NAMES = {"id", "type", "etag"}
"""What names the integration, or guards it."""
# What follows from these is not to be read from an integration alone: field -> where a test sets it, and how
ELSEWHERE = {
    "charging_period_interval_minutes": ("tests/rpc/test_ocpi_charged.py", "charging_period_interval_minutes=60"),
    "state_of_charge_sent": ("tests/rpc/test_ocpi_charged.py", "state_of_charge_sent=True"),
    "free_vending_with_idtag_allowed": ("tests/rpc/test_authorization.py", "free_vending_with_idtag_allowed=True"),
    "ampeco.notification_token": ("tests/rpc/test_ampeco_notifications.py", 'notification_token="another-key"'),
    "ampeco.sessions_from": ("tests/rpc/test_ampeco_sessions.py", "integration.ampeco.sessions_from.seconds = "),
    "ocpi.planned_parties": ("tests/rpc/test_hub.py", "OcpiConnection(planned_parties="),
    "ampeco.time_zone": ("tests/rpc/test_ampeco_import.py", 'lambda it: it.time_zone, "Europe/Berlin"'),
}


def leaves(message: Message, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """(path, field) of all that a caller may set, as far as it is set here."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if OUTPUT_ONLY in field.GetOptions().Extensions[field_behavior]:
            continue
        if field.message_type and not field.is_repeated and field.message_type.file.package == "evbridge.v1":
            yield from leaves(value, f"{path}.")
        else:
            yield path, field


def comment_of(field: FieldDescriptor) -> str:
    """Its comment in the contract."""
    text = (ROOT / "protos" / field.file.name).read_text(encoding="utf-8")
    message = text.partition(f"message {field.containing_type.name} {{")[2]
    found = re.search(rf"((?: *//[^\n]*\n)+)[^\n/]* {field.name} = {field.number}\b", message)
    assert found, field.full_name
    return re.sub(r"\s*//\s*", " ", found[1])


def changed(integration: Integration, path: str, by: Message) -> Integration:
    """The integration with another value there: the one of `by`, or not what is true already."""
    other = Integration.FromString(integration.SerializeToString())
    target: Any = other
    source: Any = by
    *above, name = path.split(".")
    for step in above:
        target, source = getattr(target, step), getattr(source, step)
    old = getattr(target, name)
    target.ClearField(name)
    value, field = getattr(source, name), target.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(target, name).extend(value)
    elif field.message_type:
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, not value if value is old is True else value)
    return other


async def follows(running: Evbridge, tenant: Tenant, integration: Integration) -> Any:
    """What is done with the integration: where its requests go and how, and what travels."""
    stored = await tenant.admin.integrations.CreateIntegration(CreateIntegrationRequest(integration=integration))
    target = await IntegrationTargets(running.database, running.keyring, ()).target(tenant.name, stored.id)
    secrets = target.secret.reveal(), target.credential.reveal(), target.grant and target.grant.client_secret.reveal()
    grant = target.grant and replace(target.grant, version="", client_secret=target.secret)
    row = tuple(await running.database.row(ROW, tenant.name, stored.id))
    plain = replace(target, integration_id="", integration=Integration(), secret=target.secret, grant=None)
    pushes, missing = [], ""
    if stored.HasField("ocpi"):
        partner = Pushes(Reached(stored, stored))
        pushes = [partner.reason(kind) for kind in KINDS]
        try:
            check_pulled(VersionDetails(), stored.models)
        except EndpointMissing as error:
            missing = error.message
    return row, pushes, missing, secrets, str(grant), str(plain), billing_of(stored)


async def test_each_field_acts_or_is_stored_only(party: Tenant, running: Evbridge) -> None:
    """With some type of integration at least."""
    hub = CreateIntegrationRequest(integration=an_integration_of("ocpi", id="hub"))
    await party.admin.integrations.CreateIntegration(hub)
    acts: dict[str, bool] = {}
    comments: dict[str, str] = {}
    for type in CONNECTIONS:
        others = {f"evbridge.v1.Integration.{name}": None for name in CONNECTIONS if name != type}
        full: Any = filled(Integration.DESCRIPTOR, VALUES | others)
        base = an_integration_of(type, enabled=False)
        base.models.pull_location = True
        if type == "ocpi":  # where a country alone names nobody
            base.ocpi.platform_party_id = "XYZ"
        if type == "emabler":  # where only the first version knows a client
            base.emabler.api_version, full.emabler.api_version = EMABLER_API_VERSION_V1, EMABLER_API_VERSION_V2
        before = await follows(running, party, base)
        assert await follows(running, party, base) == before  # a field that is not changed changes nothing
        for path, field in leaves(full):
            if path not in NAMES and not acts.get(path):
                comments[path] = comment_of(field)
                acts[path] = await follows(running, party, changed(base, path, full)) != before
    assert len(acts) > 40
    stored_only = {path for path, comment in comments.items() if "tored only" in comment}
    assert {path for path in acts if not acts[path]} - ELSEWHERE.keys() == stored_only


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_acts_elsewhere_is_changed_by_a_test(path: str) -> None:
    file, text = ELSEWHERE[path]
    assert text in (ROOT / file).read_text(encoding="utf-8")
