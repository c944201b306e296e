"""The egress, watched: one HTTP request and its answer, traced, measured and recorded."""

import time
from collections.abc import Mapping
from uuid import uuid4

from opentelemetry import metrics, trace

from service.bridge.addresses import server
from service.bridge.display import credential_query, plain_headers, shown_headers, shown_url
from service.bridge.egress import Answer, Egress
from service.bridge.ports import Exchange, Recorder, Target
from service.bridge.redaction import redacted_body, redacted_text
from service.bridge.registry import Operation
from service.bridge.transcode import HttpRequest
from service.telemetry import TO_PARTNERS

_DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

_Attributes = dict[str, str | int]


class ObservedEgress:
    """`listen` is shown every exchange, `record` those of integrations that are recorded."""

    def __init__(self, egress: Egress, record: Recorder | None, listen: Recorder | None) -> None:
        self._egress = egress
        self._record = record
        self._listen = listen
        self._tracer = trace.get_tracer("evbridge.bridge")
        self._duration = metrics.get_meter("evbridge.bridge").create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
        )

    async def request(
        self, operation: Operation, target: Target, request: HttpRequest, timeout_s: float, recorded: bool
    ) -> Answer:
        """Raises EgressError."""
        partner, (host, port) = operation.partner, server(target.base_url)
        template = operation.template
        headers = plain_headers(request) | {name: str(uuid4()) for name in partner.unique_id_headers}
        headers |= target.routing if operation.routed else {}
        headers |= request.headers
        attributes: _Attributes = {"http.request.method": request.method, "server.address": host, "server.port": port}
        answer, outcome, started = None, "", time.perf_counter()
        with self._tracer.start_as_current_span(
            f"{request.method} {template}",
            kind=trace.SpanKind.CLIENT,
            attributes={
                **attributes,
                "url.full": shown_url(target, request, with_values=False),
                "url.template": template,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            TO_PARTNERS.inject(headers)
            try:
                answer = await self._egress.request(
                    target,
                    request,
                    headers=headers,
                    credential_header=partner.credential_header,
                    credential_prefix=partner.credential_prefix,
                    credential_query=credential_query(operation, target),
                    timeout_s=timeout_s,
                )
                attributes["http.response.status_code"] = answer.status
                outcome = str(answer.status) if answer.status >= 400 else ""
                return answer
            except BaseException as error:
                outcome = type(error).__name__
                raise
            finally:
                duration_s = time.perf_counter() - started
                if outcome:
                    attributes["error.type"] = outcome
                    span.set_status(trace.StatusCode.ERROR)
                span.set_attributes(attributes)
                self._duration.record(duration_s, attributes)
                if hearers := [hear for hear in (self._listen, self._record if recorded else None) if hear]:
                    exchange = _exchange(operation, target, request, headers, answer, duration_s)
                    for hear in hearers:
                        hear(exchange)


def _exchange(
    operation: Operation,
    target: Target,
    request: HttpRequest,
    headers: Mapping[str, str],
    answer: Answer | None,
    duration_s: float,
) -> Exchange:
    answer = answer or Answer(0, {}, None)
    return Exchange(
        tenant_id=target.tenant_id,
        integration_id=target.integration_id,
        operation=operation.name,
        method=request.method,
        url=redacted_text(shown_url(target, request), target),
        request_headers={**shown_headers(operation, target, request), **headers},
        request_body=request.body or b"",
        status=answer.status,
        response_headers={name: redacted_text(value, target) for name, value in answer.headers.items()},
        response_body=redacted_body(answer.body or b"", target),
        duration_s=duration_s,
        personal=operation.personal,
    )
