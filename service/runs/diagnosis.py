"""Whether a partner can be reached and understands us: one harmless question, reported as steps."""

import time
from abc import ABC, abstractmethod
from typing import ClassVar

from service.domain.partner_error import PartnerCredentialRefused, PartnerError
from service.runs.worker import Progress, Tools
from service.storage.run import RunClaim

_FAST_S, _SLOW_S = 1.0, 5.0


class Diagnosis(ABC):
    """Asks one question."""

    question: ClassVar[str]

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @abstractmethod
    async def ask(self, run: RunClaim) -> None:
        """Raises what the channel raises."""

    async def execute(self, run: RunClaim, progress: Progress) -> None:
        """Raises what `ask` raises."""
        started = time.monotonic()
        progress.count(0, 1, self.question)
        progress.begin("address")
        try:
            await self.ask(run)
        except PartnerError as error:
            _report(error, progress)
            raise
        progress.begin("credential")
        progress.begin("answer")
        progress.begin("duration", _duration_class(time.monotonic() - started))
        progress.count(1, 1)


class TokenDiagnosis(Diagnosis):
    """For types of partners that are spoken to with access tokens and have no contract yet."""

    question = "asks for an access token"

    async def ask(self, run: RunClaim) -> None:
        await self._tools.oauth.ask(await self._tools.targets.target(run.tenant_id, run.integration_id))


def _report(error: PartnerError, progress: Progress) -> None:
    """Leaves the step under way that failed with `error`."""
    if not error.http_status:
        return
    if isinstance(error, PartnerCredentialRefused):
        progress.begin("credential")
        return
    if error.http_status < 300:
        progress.begin("credential")
    else:
        progress.skip("credential", "not known: the partner answered with an error")
    progress.begin("answer")


def _duration_class(elapsed_s: float) -> str:
    """Of the whole exchange, with the wait for a request slot."""
    if elapsed_s < _FAST_S:
        return f"fast: less than {_FAST_S:g} s"
    return f"slow: less than {_SLOW_S:g} s" if elapsed_s < _SLOW_S else f"very slow: {_SLOW_S:g} s or more"
