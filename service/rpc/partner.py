"""evbridge.v1.PartnerService."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.partner_pb2 import (
    ExchangeRecording,
    GetPartnerStatusRequest,
    Idempotency,
    ListExchangesRequest,
    ListOperationsRequest,
    Operation,
    PartnerStatus,
    PreviewRequest,
    PreviewResponse,
    SetExchangeRecordingRequest,
)
from google.api import annotations_pb2 as annotations
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import Error, MessageToDict, ParseDict

from service.bridge import registry
from service.bridge.channel import through
from service.bridge.display import shown_headers, shown_url
from service.bridge.ports import Targets
from service.bridge.transcode import to_http
from service.domain.caller import Caller
from service.domain.fields import hide_secrets
from service.domain.pages import key_before, list_response, page_size, position_before
from service.errors import InvalidArgument, ResourceNotFound
from service.resources.mutation import mutate
from service.resources.partner import partner_status
from service.storage.connection import Connection
from service.storage.exchange import exchange_page, exchange_record_until
from service.storage.integration import integration_get
from service.storage.keyring import Keyring
from service.storage.pool import Database


class PartnerService:
    def __init__(self, database: Database, keyring: Keyring, contracts: registry.Registry, targets: Targets) -> None:
        self._database = database
        self._keyring = keyring
        self._targets = targets
        self._operations = {name.removeprefix("/"): each for name, each in sorted(contracts.operations.items())}

    async def ListOperations(self, request: ListOperationsRequest, caller: Caller) -> bytes:
        after, size = key_before(request), page_size(request.page_size)
        rows = [
            (name, _described(operation).SerializeToString())
            for name, operation in self._operations.items()
            if name > after and request.partner in ("", operation.partner.name)
        ]
        return list_response(request, rows, size)

    async def Preview(self, request: PreviewRequest, caller: Caller) -> PreviewResponse:
        operation = self._operations.get(request.operation)
        if operation is None:
            raise ResourceNotFound.of("operation", request.operation)
        message = operation.request_type()
        try:
            sent = MessageToDict(request.request)
            for name, paths in _masks(message.DESCRIPTOR, sent):
                getattr(message, name).paths.extend(paths)
            ParseDict(sent, message)
        except (Error, TypeError, ValueError):
            wanted = message.DESCRIPTOR.full_name
            raise InvalidArgument.field("request", f"is not the JSON form of {wanted}") from None
        if not getattr(message, operation.integration_field):
            raise InvalidArgument.field(f"request.{operation.integration_field}", "is required")
        target, operation = await through(self._targets, operation, message, caller.tenant_id)
        if target.partner != operation.partner.name:
            raise InvalidArgument.field(
                f"request.{operation.integration_field}", f"is an integration with {target.partner}"
            )
        hide_secrets(message)
        written = to_http(operation, message)
        return PreviewResponse(
            http_method=written.method,
            url=shown_url(target, written),
            headers=shown_headers(operation, target, written),
            body=(written.body or b"").decode(),
        )

    async def GetPartnerStatus(self, request: GetPartnerStatusRequest, caller: Caller) -> PartnerStatus:
        target = await self._targets.target(caller.tenant_id, request.integration_id)
        return await partner_status(self._database, target)

    async def SetExchangeRecording(self, request: SetExchangeRecordingRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> ExchangeRecording:
            until = request.until.ToDatetime(UTC) if request.HasField("until") else None
            end = await exchange_record_until(conn, caller.tenant_id, request.integration_id, until)
            recording = ExchangeRecording(integration_id=request.integration_id)
            recording.end_time.FromDatetime(end)
            return recording

        return await mutate(self._database, self._keyring, request, caller, work)

    async def ListExchanges(self, request: ListExchangesRequest, caller: Caller) -> bytes:
        before, size = position_before(request), page_size(request.page_size)
        await integration_get(self._database, caller.tenant_id, request.integration_id)
        rows = await exchange_page(self._database, caller.tenant_id, request.integration_id, before, size + 1)
        return list_response(request, rows, size)


_CAPITAL = re.compile("[A-Z]")


def _masks(request: Any, sent: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Takes the update masks out of the JSON: "postCode,name", "post_code,name" or {"paths": ["post_code", "name"]}."""
    for field in request.fields:
        if field.message_type is not None and field.message_type.full_name == FieldMask.DESCRIPTOR.full_name:
            for name in (field.name, field.json_name):
                mask = sent.get(name)
                if isinstance(mask, str):
                    del sent[name]
                    yield field.name, [_CAPITAL.sub(r"_\g<0>", path).lower() for path in mask.split(",") if path]
                elif isinstance(mask, dict) and isinstance(mask.get("paths"), list):
                    yield field.name, sent.pop(name)["paths"]


def _described(operation: registry.Operation) -> Operation:
    request = operation.request_type.DESCRIPTOR
    method = request.file.pool.FindMethodByName(operation.name.removeprefix("/").replace("/", "."))
    stated = method.GetOptions()
    rule = stated.Extensions[annotations.http]
    return Operation(
        name=operation.name.removeprefix("/"),
        partner=operation.partner.name,
        http_method=operation.http_method,
        path=getattr(rule, rule.WhichOneof("pattern")),
        role=stated.Extensions[options.role],
        idempotency=cast(Idempotency.ValueType, stated.idempotency_level),
        deprecated=stated.deprecated,
        request_type=request.full_name,
        response_type=operation.response_type.DESCRIPTOR.full_name,
    )
