"""A partner that knows nothing: it plays the answers it was given and writes down what it was asked.

It imports no proto and nothing of evbridge, so that the bridge and the simulator cannot be wrong together.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.partners import listening


def cases(key: str) -> Sequence[Path]:
    """The files `<partner>/<case>.json` that have it."""
    return [path for path in sorted(Path(__file__).parent.glob("*/*.json")) if key in json.loads(path.read_text())]


class Recorder:
    """Plays `exchanges` in their order; `received` holds each request as the golden files write it."""

    def __init__(self, exchanges: list[dict[str, Any]]) -> None:
        self._exchanges = exchanges
        self.received: list[dict[str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> "Recorder":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._listening = listening(app)
        self.url = await self._listening.__aenter__()
        return self

    async def __aexit__(self, *ended: Any) -> None:
        await self._listening.__aexit__(*ended)

    async def _answer(self, request: web.Request) -> web.Response:
        number = len(self.received)
        text = await request.text()
        expected = self._exchanges[number]["request"] if number < len(self._exchanges) else {"headers": {}}
        self.received.append(
            {
                "method": request.method,
                "path": request.raw_path.partition("?")[0],
                "query": [[name, value] for name, value in request.query.items()],
                "headers": {name: request.headers.get(name) for name in expected["headers"]},
                "body": json.loads(text) if text else None,
            }
        )
        if number >= len(self._exchanges):
            return web.Response(status=599, text="nothing more was expected")
        answer = self._exchanges[number]["answer"]
        body = answer.get("text") or (json.dumps(answer["body"]) if "body" in answer else None)
        return web.Response(status=answer["status"], text=body, content_type="application/json" if body else None)
