"""A call on its way: the permit and the token it needs, a second attempt where that is safe, its answer judged."""

import asyncio
import logging
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from weakref import WeakValueDictionary

from evbridge.v1.partner_pb2 import RepairedAnswers

from service.bridge.codec import CodecError, Decoded
from service.bridge.egress import Answer, EgressError
from service.bridge.json_text import parse_tolerantly, takes_long
from service.bridge.observed import ObservedEgress
from service.bridge.ports import Authorise, Behaviour, Enveloped, Gate, Permit, Target
from service.bridge.redaction import SHORTEST, redacted_body, redacted_reply
from service.bridge.registry import Operation
from service.bridge.statuses import caller_was_short, limit_reached_s, refused, unanswered
from service.bridge.transcode import HttpRequest, reply_from_http
from service.domain.caller import waits_elsewhere
from service.domain.fields import take_secrets
from service.domain.partner_error import PartnerFault, PartnerOutcomeUnknown, PartnerUnavailable

_log = logging.getLogger(__name__)


class Sender:
    """Has a thread for answers that take long to read, so there is one per process."""

    def __init__(
        self, gate: Gate, egress: ObservedEgress, behaviours: Mapping[str, Behaviour], authorise: Authorise | None
    ) -> None:
        self._gate = gate
        self._egress = egress
        self._behaviours = behaviours
        self._enveloped = {name: each for name, each in behaviours.items() if isinstance(each, Enveloped)}
        self._authorise = authorise
        # One thread: several would only take the interpreter from each other, and from the event loop.
        self._reader = ThreadPoolExecutor(1, "answers")
        self._read_of: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def send(
        self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float | None
    ) -> Decoded:
        """See PartnerChannel.call."""
        allowed_s = target.timeout_s if timeout_s is None else min(timeout_s, target.timeout_s)
        clock = asyncio.get_running_loop().time
        deadline = clock() + allowed_s
        try:
            decoded = await self._attempt(operation, target, request, deadline)
        except (PartnerUnavailable, PartnerOutcomeUnknown) as error:
            pause_s = random.uniform(0.05, 0.25)
            if not operation.idempotent or error.retry_after_s is not None or clock() + pause_s >= deadline:
                raise
            await asyncio.sleep(pause_s)
            decoded = await self._attempt(operation, target, request, deadline)
        if decoded.rejects:
            _log.warning("%s: %d objects were unreadable", operation.name, len(decoded.rejects))
        return decoded

    async def _attempt(self, operation: Operation, target: Target, request: HttpRequest, deadline: float) -> Decoded:
        clock = asyncio.get_running_loop().time
        waits_elsewhere()
        # At most half of the time goes into waiting, so that what is sent has time to be answered.
        wait_s = (deadline - clock()) / 2
        async with self._gate.permit(target, safe=operation.safe, timeout_s=wait_s) as permit:
            # A 401 had no effect, and a token may end before its time: a second one is tried, and at most half of the
            # time goes into asking for it.
            for second in (False, True):
                if target.grant and self._authorise:
                    target = await self._authorise(target, refused=second, timeout_s=(deadline - clock()) / 2)
                answer = await self._answered(operation, target, request, deadline - clock(), permit)
                if target.grant is None or answer.status != 401:
                    break
            decoded = (await self._judged(operation, target, answer))._replace(headers=answer.headers)
            if decoded.repair:
                permit.repaired = RepairedAnswers(
                    operation=operation.name.removeprefix("/"),
                    value_count=decoded.repairs,
                    path=decoded.repair.pointer,
                    description=decoded.repair.problem,
                )
            return decoded

    async def answer(self, operation: Operation, target: Target, request: HttpRequest) -> Answer:
        """See PartnerChannel.answer."""
        waits_elsewhere()
        async with self._gate.permit(target, safe=operation.safe, timeout_s=target.timeout_s / 2) as permit:
            return await self._answered(operation, target, request, target.timeout_s, permit)

    async def _answered(
        self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float, permit: Permit
    ) -> Answer:
        try:
            answer = await self._egress.request(operation, target, request, timeout_s, permit.recorded)
        except EgressError as error:
            permit.caller_was_short = caller_was_short(error, target, timeout_s)
            raise unanswered(operation, target, error) from None
        permit.limit_reached_s = limit_reached_s(answer, datetime.now(UTC))
        return answer

    async def _judged(self, operation: Operation, target: Target, answer: Answer) -> Decoded:
        if not 200 <= answer.status < 300:
            raise refused(operation, target, answer, self._behaviours.get(target.partner))
        if answer.status == HTTPStatus.NO_CONTENT:
            return Decoded(operation.response_type(), ())
        try:
            if answer.body is None:
                raise CodecError("", "is too large, or is compressed in a way that was not asked for")
            decoded = await self._decoded(operation, target, answer.body)
            if enveloped := self._enveloped.get(target.partner):
                enveloped.check(decoded.message)
            return decoded
        except CodecError as error:
            problem = str(error)
        _log.warning("%s: the answer is unreadable: %s", operation.name, problem)
        raise (PartnerFault if operation.safe else PartnerOutcomeUnknown)(
            f"the answer of {target.partner} breaks its contract: {problem}",
            partner=target.partner,
            http_status=answer.status,
        )

    async def _decoded(self, operation: Operation, target: Target, body: bytes) -> Decoded:
        """Reads what takes long beside the event loop, one answer of an integration at a time. Raises CodecError."""
        if not takes_long(body):
            return _read(operation, target, body)
        key = (target.tenant_id, target.integration_id)
        async with self._read_of.setdefault(key, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._reader, _read, operation, target, body)


def _read(operation: Operation, target: Target, body: bytes) -> Decoded:
    """The reply, without secrets of the partner's or ours. Raises CodecError."""
    if operation.raw:
        value = parse_tolerantly(redacted_body(body, target, SHORTEST))
        return operation.reply.decode_value(value)._replace(value=value)
    decoded = reply_from_http(operation, body)
    secrets = take_secrets(decoded.message)
    return redacted_reply(decoded, target)._replace(secrets=secrets)
