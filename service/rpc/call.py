"""One call while it lasts, as traces, metrics and the log see it."""

import logging
import time
from functools import cache

from evbridge.v1 import error_reason_pb2 as reasons
from google.rpc import code_pb2 as codes
from opentelemetry import trace

from service.domain.caller import Caller
from service.durations import Durations
from service.errors import EvbridgeError
from service.rpc.admission import Entry
from service.telemetry import log_fields

log = logging.getLogger(__name__)
_duration = Durations(
    "evbridge",
    "rpc.server.call.duration",
    "From the request's arrival to the answer's departure.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

# The codes that the semantic conventions count as errors of the server.
_SERVER_FAULTS = {codes.UNKNOWN, codes.DEADLINE_EXCEEDED, codes.UNIMPLEMENTED, codes.INTERNAL, codes.UNAVAILABLE}


@cache
def _attributes(rpc: str, code: str) -> dict[str, str]:
    return {"rpc.system.name": "grpc", "rpc.method": rpc, "rpc.response.status_code": code}


class Call:
    """One call while it lasts: its span, its measurement and its line in the log."""

    __slots__ = (
        *("_level", "_rpc", "_span", "_started"),
        *("ambiguous", "cut", "entry", "fields", "metadata"),
    )

    def __init__(
        self,
        rpc: str,
        level: int,
        metadata: dict[str, str | bytes],
        span: trace.Span,
    ) -> None:
        self._started = time.perf_counter()
        self._rpc = rpc
        self._level = level
        self._span = span
        self.metadata = metadata
        self.ambiguous = False
        """Whether there are several credentials."""
        self.cut: EvbridgeError | None = None
        """Why we ended it while its caller did not listen."""
        self.entry: Entry | None = None
        # The call has a task, and so a context, of its own: nothing to reset.
        self.fields = {"rpc": rpc}
        log_fields.set(self.fields)

    def describe(self, caller: Caller) -> None:
        self.fields["tenant"], self.fields["key"] = caller.tenant_id, caller.actor
        if name := self.metadata.get("x-request-id"):
            self.fields["request_id"] = str(name)[:100]

    def end(self, code: str = "OK", error: EvbridgeError | None = None) -> None:
        elapsed_s = time.perf_counter() - self._started
        attributes = _attributes(self._rpc, code)
        if error is not None:
            attributes = {**attributes, "error.type": reasons.ErrorReason.Name(error.reason)}
        _duration.record(elapsed_s, attributes)
        if self._span.is_recording():
            self._span.set_attributes(attributes)
            if error is not None and error.code in _SERVER_FAULTS:
                self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        level = self._level if error is None else logging.INFO
        if log.isEnabledFor(level):
            outcome = {"code": code, "duration_ms": round(elapsed_s * 1000, 3)}
            log.log(level, "rpc", extra=outcome if error is None else {**outcome, "reason": attributes["error.type"]})
