"""The partners' own contracts, served: check the integration, hand the call to the partner's channel.

One class for every service of every partner. Objects of a page that could not be read are shown in trailing metadata:
`evbridge-rejected-count`, and up to 20 times `evbridge-rejected`: a JSON pointer into the partner's answer (in a stream
after the page's number, `2#/data/0/id`) and what is wrong there.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from functools import partial

from evbridge.v1.integration_pb2 import (
    INTEGRATION_STATUS_ACTIVE,
    INTEGRATION_STATUS_FAILED,
    Integration,
    IntegrationStatus,
    IntegrationType,
)
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from service.bridge.channel import PartnerChannel
from service.bridge.registry import Operation, Pages, Registry
from service.domain.audit import event_of_partner_call
from service.domain.caller import Caller, call_deadline
from service.domain.keys import LOWER_CASE_ID
from service.domain.partner_error import PartnerCredentialRefused
from service.domain.target import Target
from service.errors import EvbridgeError, IntegrationDisabled, InvalidArgument, ResourceNotFound
from service.resources.audit import audited
from service.resources.integration import status_found
from service.storage.keyring import Keyring
from service.storage.pool import Database

_MAX_REJECTED = 20


class ContractService:
    """The rpcs of one service, by their names. Calls find out the status of integrations of types `status_by_calls`."""

    def __init__(
        self,
        service: ServiceDescriptor,
        registry: Registry,
        channel: PartnerChannel,
        database: Database,
        keyring: Keyring,
        status_by_calls: Collection[IntegrationType.ValueType],
    ) -> None:
        self._keyring = keyring
        self._status_by_calls = status_by_calls
        self._channel = channel
        self._database = database
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            if pages := registry.pages.get(path):
                setattr(self, method.name, partial(self._stream, pages))
            else:
                setattr(self, method.name, partial(self._call, registry.operations[path]))

    async def _call(self, operation: Operation, request: Message, caller: Caller) -> Message:
        target = await self._target(operation, request, caller)
        async with self._audited(operation, request, caller), self._watching_status(target.integration, caller):
            left_s = call_deadline.get() - time.monotonic()
            answer = await self._channel.call(
                operation, request, tenant_id=caller.tenant_id, timeout_s=left_s, target=target
            )
        shown = [f"{each.pointer or '/'} {each.problem}" for each in answer.rejects[:_MAX_REJECTED]]
        _add_rejected(caller, len(answer.rejects), shown)
        message: Message = answer.message
        return message

    async def _stream(self, pages: Pages, request: Message, caller: Caller) -> AsyncGenerator[Message, None]:
        target = await self._target(pages.page, request, caller)
        number, count, rejected = 0, 0, list[str]()
        left_s = call_deadline.get() - time.monotonic()
        answers = self._channel.pages(pages, request, tenant_id=caller.tenant_id, timeout_s=left_s, target=target)
        async with self._watching_status(target.integration, caller), aclosing(answers):
            async for answer in answers:
                number += 1
                count += len(answer.rejects)
                shown = answer.rejects[: _MAX_REJECTED - len(rejected)]
                rejected += [f"{number}#{each.pointer or '/'} {each.problem}" for each in shown]
                yield answer.message
        _add_rejected(caller, count, rejected)

    def _audited(self, operation: Operation, request: Message, caller: Caller) -> AbstractAsyncContextManager[None]:
        """Around a call that may change something at the partner, its event."""
        if operation.safe:
            return nullcontext()
        id: str = getattr(request, operation.integration_field)
        describe = partial(event_of_partner_call, operation.name.removeprefix("/"), id, request)
        return audited(self._database, self._keyring, caller, describe)

    @asynccontextmanager
    async def _watching_status(self, integration: Integration, caller: Caller) -> AsyncIterator[None]:
        """Stores the status that a call shows, where no delivery and no exchange does."""
        try:
            yield
        except PartnerCredentialRefused as error:
            await self._store_status(integration, caller, INTEGRATION_STATUS_FAILED, error.message)
            raise
        await self._store_status(integration, caller, INTEGRATION_STATUS_ACTIVE, "")

    async def _store_status(
        self, before: Integration, caller: Caller, status: IntegrationStatus.ValueType, description: str
    ) -> None:
        """Stores a status that is another one than before the call, unless the integration was changed since.

        The call had its effect: that it could not be stored is no failure of it.
        """
        known = (before.status, before.status_description)
        if before.type not in self._status_by_calls or known == (status, description):
            return
        with suppress(EvbridgeError):
            await status_found(self._database, caller.tenant_id, before, status, description)

    async def _target(self, operation: Operation, request: Message, caller: Caller) -> Target:
        """Where the call goes.

        Raises InvalidArgument unless the integration is the tenant's and of this partner, IntegrationDisabled.
        """
        id: str = getattr(request, operation.integration_field)
        wrong = InvalidArgument.field(
            operation.integration_field, f"is not an integration with {operation.partner.name}"
        )
        if not id:
            raise InvalidArgument.field(operation.integration_field, "is required")
        if not LOWER_CASE_ID.fullmatch(id):
            raise wrong
        try:
            target = await self._channel.target(caller.tenant_id, id)
        except ResourceNotFound:
            raise wrong from None
        if target.partner != operation.partner.name:
            raise wrong
        if not target.integration.enabled:
            raise IntegrationDisabled.of(id)
        return target


def _add_rejected(caller: Caller, count: int, rejected: Sequence[str]) -> None:
    if count:
        caller.trailers.append(("evbridge-rejected-count", str(count)))
        caller.trailers.extend(("evbridge-rejected", each) for each in rejected)
