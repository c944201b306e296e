"""What an OCPI party really does: it is asked for versions, details and pages of lists, in good and bad ways.

All that is asked is a GET, at the versions URL and those that the party gave out, one after another.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from evbridge.v1.run_pb2 import RUN_STEP_STATE_FAILED, RUN_STEP_STATE_SKIPPED, RUN_STEP_STATE_SUCCEEDED

from service.bridge.addresses import EgressPolicy, origin
from service.bridge.channel import PartnerChannel
from service.bridge.redaction import SHORTEST, redacted_body, redacted_text
from service.bridge.transcode import HttpRequest
from service.domain.integration import credentials_token
from service.domain.partner_error import PartnerRateLimited
from service.domain.secret import Secret
from service.domain.target import Target
from service.domain.verdict import Finding, Outcome
from service.errors import EvbridgeError
from service.partners.ocpi.checks import findings
from service.partners.ocpi.checks.evidence import (
    LIMIT,
    Evidence,
    Seen,
    is_callable,
    newest,
    query_of,
    text_in,
)
from service.partners.ocpi.checks.modules import MODULES, UNKNOWN
from service.partners.ocpi.mapping import CodecError, parsed
from service.partners.ocpi.party import VERSIONS, OtherParty
from service.runs.diagnosis import Diagnosis
from service.runs.worker import Progress
from service.storage.run import RunClaim

MAX_REQUESTS = 100
MAX_ANSWER_BYTES = 2 << 20
LIMIT_S = 120.0
"""Of all requests; what is not asked by then is skipped."""

_PAGE = 20
_OPERATION = "/evbridge.partner.ocpi.v2.VersionsService/GetVersionDetails"
_NONE = Secret("")
_WRONG = Secret("evbridge-asks-with-a-wrong-token")
_LONG_AGO = "2010-01-01T00:00:00Z"
_STATES = {
    Outcome.PASS: RUN_STEP_STATE_SUCCEEDED,
    Outcome.WARN: RUN_STEP_STATE_SUCCEEDED,
    Outcome.FAIL: RUN_STEP_STATE_FAILED,
    Outcome.SKIPPED: RUN_STEP_STATE_SKIPPED,
}


class OcpiDiagnosis(Diagnosis):
    """Fails when the versions cannot be read; what else the party does is told by steps, one for each check."""

    question = "asks for the versions"

    async def ask(self, run: RunClaim) -> None:
        target = await self._tools.targets.target(run.tenant_id, run.integration_id)
        plain = target.integration.ocpi.plain_authorization
        party = OtherParty(self._tools.channel, target, self._tools.policy, target.secret, plain=plain)
        await party.versions(target.base_url)

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises what `ask` raises."""
        await super().execute(run, progress)
        progress.count(1, 2, "checks what the party does")
        target = await self._tools.targets.target(run.tenant_id, run.integration_id)
        for finding in await diagnosed(self._tools.channel, target, self._tools.policy):
            progress.begin(finding.check, f"{finding.outcome.value}: {finding.seen}")
            progress.report.steps[-1].next_action = finding.advice
            progress.close(_STATES[finding.outcome])
        progress.count(2, 2)


async def diagnosed(channel: PartnerChannel, target: Target, policy: EgressPolicy) -> list[Finding]:
    """What the party at `target`, whose `secret` is the token, does with each check.

    The token goes to each origin that the party's version details name, as far as the egress guard lets it.
    """
    evidence = await _Asking(channel, target, policy).evidence()
    found = await asyncio.to_thread(findings, evidence)
    return [each._replace(seen=redacted_text(each.seen, target)) for each in found]


class _Asking:
    """Asks one party, and keeps what it said."""

    def __init__(self, channel: PartnerChannel, target: Target, policy: EgressPolicy) -> None:
        self._channel = channel
        self._target = target
        self._operation = channel.registry.operations[_OPERATION]
        self._plain = False
        self._hidden = replace(target, credential=credentials_token(target.secret, plain=False))
        self._evidence = Evidence(target.base_url, policy, datetime.now(UTC))

    async def evidence(self) -> Evidence:
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._ask_all()
        except TimeoutError:
            self._evidence.ended = f"the answers before took {LIMIT_S:g} s"
        return self._evidence

    async def _ask_all(self) -> None:
        e, url = self._evidence, self._target.base_url
        await self._ask("versions", url)
        await self._ask("plain token", url, plain=True)
        if not (e.is_ok("versions") or e.is_ok("plain token")):
            return
        self._plain, old_is_plain = not e.is_ok("versions"), False
        await self._ask("no token", url, token=_NONE)
        await self._ask("wrong token", url, token=_WRONG)
        await self._ask("token in lower case", url, prefix="token ")
        await self._ask("versions slash", _other_slash(url))
        await self._ask("unknown path", f"{url.rstrip('/')}/{UNKNOWN}")
        for version in (version for version in VERSIONS if version in e.spoken):
            await self._ask(f"details {version}", e.spoken[version])
            if version == "2.1.1" and not (self._plain or e.is_ok(f"details {version}")):
                # Whose tokens are plain; some who decode them elsewhere do not do it there.
                await self._ask(f"details {version}", e.spoken[version], plain=True)
                old_is_plain = e.is_ok(f"details {version}")
        e.version = next((version for version in VERSIONS if version in e.details), "")
        self._plain |= old_is_plain and e.version == "2.1.1"
        for module in MODULES:
            if list_url := e.list_url(module):
                await self._ask_list(module, list_url)
            if receiver_url := e.receiver_url(module):
                await self._ask_receiver(module, receiver_url)

    async def _ask_list(self, module: str, url: str) -> None:
        e = self._evidence
        since: dict[str, Any] = {"date_from": _LONG_AGO} if MODULES[module].wants_date_from else {}
        await self._ask(f"{module} first", url, limit=_PAGE, **since)
        page = e.listed(module)
        if page is None:
            return
        await self._ask(f"{module} stranger", url, token=_NONE, limit=LIMIT, **since)
        await self._ask(f"{module} limit", url, limit=LIMIT, **since)
        await self._ask(f"{module} filtered", url, limit=1, date_from=_LONG_AGO)
        await self._ask(f"{module} slash", _other_slash(url), limit=LIMIT, **since)
        total = e.answers[f"{module} first"].count("X-Total-Count") or len(page)
        await self._ask(f"{module} beyond", url, limit=LIMIT, offset=total + 1000, **since)
        link = e.answers[f"{module} limit"].next_link if f"{module} limit" in e.answers else ""
        if link and is_callable(link.partition("?")[0], e.policy) and origin(link) == origin(url):
            await self._ask(f"{module} next", link)
        if time := newest(page):
            await self._ask(f"{module} date_from", url, limit=_PAGE, date_from=time)
            await self._ask(f"{module} date_to", url, limit=_PAGE, date_to=time, **since)
        if MODULES[module].shows_one:
            if id := text_in(page[0] if page else None, "id"):
                await self._ask(f"{module} object", f"{url.rstrip('/')}/{quote(id, safe='')}")
            await self._ask(f"{module} nothing", f"{url.rstrip('/')}/{UNKNOWN}")

    async def _ask_receiver(self, module: str, url: str) -> None:
        """For what it was never sent, if it can be asked for that."""
        if nothing := MODULES[module].nothing:
            url = f"{url.rstrip('/')}/{nothing}"
            await self._ask(f"{module} receiver nothing", url)
        await self._ask(f"{module} receiver stranger", url, token=_NONE)

    async def _ask(
        self,
        name: str,
        url: str,
        *,
        token: Secret | None = None,
        plain: bool = False,
        prefix: str = "Token ",
        **query: str | int,
    ) -> None:
        """With its own token unless another one is given."""
        answers = self._evidence.answers
        if len(answers) >= MAX_REQUESTS:
            self._evidence.ended = f"{MAX_REQUESTS} requests were made before"
        if self._evidence.ended:
            return
        token = self._target.secret if token is None else token
        credential = credentials_token(token, plain=self._plain or plain)
        partner = replace(self._operation.partner, credential_prefix=prefix if token else "")
        module = MODULES.get(name.partition(" ")[0])
        routed = module is not None and module.routed
        sent = {each: str(uuid4()) for each in partner.unique_id_headers}
        pairs = (*query_of(url), *((each, str(value)) for each, value in query.items()))
        try:
            answer = await self._channel.answer(
                replace(self._operation, partner=partner, routed=routed),
                replace(self._target, base_url=url.partition("?")[0], credential=credential),
                HttpRequest("GET", "", pairs, None, sent),
            )
        except PartnerRateLimited as limited:
            self._evidence.ended = limited.message
            return
        except EvbridgeError as error:
            answers[name] = Seen(url, problem=error.message)
            return
        if answer.status == 429:
            self._evidence.ended = "the party wants fewer requests: HTTP 429"
            return
        body, problem = await asyncio.to_thread(_read, answer.body, self._hidden)
        headers = {each.lower(): redacted_text(value, self._hidden) for each, value in answer.headers.items()}
        repeated = {each.lower(): value for each, value in sent.items()}
        answers[name] = Seen(url, answer.status, repeated, headers, body, problem)


def _other_slash(url: str) -> str:
    return url.rstrip("/") if url.endswith("/") else f"{url}/"


def _read(body: bytes | None, hidden: Target) -> tuple[object, str]:
    """The JSON without the token, which a party may say back, or why there is none."""
    if body is None or len(body) > MAX_ANSWER_BYTES:
        return None, f"the body is larger than {MAX_ANSWER_BYTES >> 20} MiB, or compressed in a way not asked for"
    try:
        return parsed(redacted_body(body, hidden) if len(hidden.secret.reveal()) >= SHORTEST else body), ""
    except CodecError as error:
        return None, f"the body {error.problem}"
