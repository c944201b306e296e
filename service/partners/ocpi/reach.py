"""Where a party is reached: through its own registration, or through that of the platform it is behind."""

from typing import Final, NamedTuple

from evbridge.v1.integration_pb2 import Integration
from evbridge.v1.ocpi_connection_pb2 import INTERFACE_ROLE_UNSPECIFIED, InterfaceRole

from service.errors import EndpointMissing, NotRegistered
from service.storage.connection import Connection
from service.storage.integration import integration_get
from service.storage.pool import Database

SINCE: Final = {"invoicereconciliation": "2.3.0"}
"""Since which version there are modules that we send or fetch objects of, where that is not the first."""


class Reached(NamedTuple):
    """An integration with a party, and the one that is registered."""

    integration: Integration
    lender: Integration

    @property
    def version(self) -> str:
        return self.lender.version_details.version

    def has(self, module: str) -> bool:
        """Whether the version that is spoken has the module."""
        return self.version >= SINCE.get(module, "")

    def endpoint(self, module: str, *sides: InterfaceRole.ValueType) -> str:
        """The first of the module's endpoints on these sides; empty without one."""
        if not self.has(module):
            return ""
        endpoints = self.lender.version_details.endpoints
        return next((each.url for each in endpoints if each.identifier == module and each.role in sides), "")

    def url(self, module: str, side: InterfaceRole.ValueType) -> str:
        """The partner's side of a module; in 2.1.1 modules have none. Raises NotRegistered, EndpointMissing."""
        self.check_registered()
        if url := self.endpoint(module, side, INTERFACE_ROLE_UNSPECIFIED):
            return url
        raise EndpointMissing(f"the partner has no {InterfaceRole.Name(side).rpartition('_')[2].lower()} of {module}")

    def check_registered(self) -> None:
        """Raises NotRegistered."""
        if not self.lender.ocpi.their_token_set:
            raise NotRegistered("there is no token to call the partner with")


async def reached(on: Connection | Database, tenant_id: str, integration_id: str) -> Reached:
    """Raises ResourceNotFound."""
    return await reached_by(on, tenant_id, Integration.FromString(await integration_get(on, tenant_id, integration_id)))


async def reached_by(on: Connection | Database, tenant_id: str, stored: Integration) -> Reached:
    """The same, through an integration that is read. Raises ResourceNotFound."""
    if platform_id := stored.ocpi.platform_integration_id:
        return Reached(stored, Integration.FromString(await integration_get(on, tenant_id, platform_id)))
    return Reached(stored, stored)
