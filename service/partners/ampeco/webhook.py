"""What AMPECO calls: notifications, of which the signature is checked and the session's id is noted.

Nothing else that a notification says is used. Whoever sends one again, or late, makes us read a session that we hold.
"""

import asyncio
import hmac
import re
import secrets
from functools import partial
from hashlib import sha256
from typing import Any, Final

from evbridge.partner.ampeco.v3.webhook_pb2 import ReceiveNotificationRequest
from evbridge.v1.delivery_pb2 import OBJECT_KIND_SESSION
from evbridge.v1.integration_pb2 import Integration

from service.bridge.edge import Call, Refused, Reply
from service.bridge.json_text import CodecError, parse_json, takes_long
from service.domain.secret import Secret
from service.errors import ResourceNotFound
from service.runs.worker import Tools
from service.storage.integration import integration_get, secrets_get
from service.storage.notified import notified_put

MAX_BODY_BYTES: Final = 1 << 18
_ID: Final = re.compile("[1-9][0-9]{0,17}", re.ASCII)
_KEYS: Final = ("ampeco.notification_token", "ampeco.api_token")
"""Which of its secrets signs: the first that is set."""


class AmpecoWebhook:
    """Serves WebhookService."""

    def __init__(self, tools: Tools) -> None:
        self._database = tools.database
        self._keyring = tools.keyring

    async def ReceiveNotification(self, request: ReceiveNotificationRequest, call: Call) -> Reply:
        """Raises Refused: 401 alike for a wrong signature and for what nobody has."""
        if len(call.body) > MAX_BODY_BYTES:
            raise Refused(413)
        tenant_id, integration_id = request.tenant, request.integration
        integration, key = await self._found(tenant_id, integration_id)
        signature = hmac.new(key.reveal().encode(), call.body, sha256).hexdigest().encode()
        given = call.headers.get("X-Signature", "").strip().lower().encode(errors="replace")
        if not hmac.compare_digest(signature, given):
            raise Refused(401)
        read = partial(_session_id, call.body)
        session_id = await asyncio.to_thread(read) if takes_long(call.body) else read()
        if session_id and integration.models.pull_session:
            async with self._database.transaction() as conn:
                await notified_put(conn, tenant_id, integration_id, OBJECT_KIND_SESSION, session_id)
        return Reply(status=204)

    async def _found(self, tenant_id: str, integration_id: str) -> tuple[Integration, Secret]:
        """The integration, and what signs for it: of none that there is, what nobody knows."""
        try:
            async with self._database.connection() as conn:
                integration = Integration.FromString(await integration_get(conn, tenant_id, integration_id))
                held = await secrets_get(conn, self._keyring, tenant_id, integration_id)
        except ResourceNotFound:
            integration, held = Integration(), {}
        unknown = Secret(secrets.token_hex())
        return integration, next((held[path] for path in _KEYS if path in held), unknown)


def _session_id(body: bytes) -> str:
    """That of the session that the event is about; "" when it is about none. Raises Refused for what is no object."""
    try:
        event: Any = parse_json(body)
    except CodecError:
        raise Refused(400) from None
    if not isinstance(event, dict):
        raise Refused(400)
    session = event.get("session")
    id = str(session.get("id") if isinstance(session, dict) else event.get("sessionId"))
    return id if _ID.fullmatch(id) else ""
