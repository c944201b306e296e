"""Several processes that serve on the same ports. One parent starts them, again when they die, and drains them."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from opentelemetry import metrics

from service.workers import work_or_poll

log = logging.getLogger(__name__)
_meter = metrics.get_meter(__name__)
_restarts = _meter.create_counter(
    "evbridge.process.restarts", description="Serving processes that died and were started again."
)
_silent = _meter.create_gauge("evbridge.process.silent", description="Serving processes that show no sign of life.")

_SERVES = b"serves\n"
"""What a process writes to standard output every second from when it serves. It ends when its standard input does: with
its parent."""
_BEAT_S = 1.0
_LISTEN_S = 2.0
_SILENT, _HUNG = 3, 15
"""For so many times `_LISTEN_S` nothing was heard of a process that is silent, or that hangs and is killed. The parent
counts its own rounds: when it stood still itself, with the whole machine perhaps, that is one."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _STEADY_S = 0.2, 30.0, 60.0
_LAST_S = 10.0  # after the drain


async def tell_parent() -> None:
    """In a process that serves: shows that its event loop turns. Never returns."""
    os.set_blocking(sys.stdout.fileno(), False)
    while True:
        with suppress(OSError):  # it stands still, or has ended
            os.write(sys.stdout.fileno(), _SERVES)
        await asyncio.sleep(_BEAT_S)


@contextmanager
def reserved(listen: str) -> Iterator[str]:
    """host:port, kept from programs that do not share it, with the port that the system chose in the place of 0."""
    host, _, port = listen.rpartition(":")
    with ExitStack() as held:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        for family, _, _, _, address in found:
            bound = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with suppress(OSError):  # no IPv6 here, perhaps; `check_listening` told what cannot be
                bound.bind((address[0], int(port), *address[2:]))
                port = str(bound.getsockname()[1])
        yield f"{host}:{port}"


class ServingProcesses:
    """`count` processes that run `evbridge serve --worker` with `environ`. `drain_s` is theirs."""

    def __init__(self, count: int, environ: Mapping[str, str], drain_s: float) -> None:
        self._count = count
        self._environ = environ
        self._drain_s = drain_s
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._silent: set[subprocess.Popen[bytes]] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Returns when all serve. Raises OSError when one ends instead; what it had to say stands in the log."""
        loop = asyncio.get_running_loop()
        serving: list[asyncio.Future[None]] = [loop.create_future() for _ in range(self._count)]
        _silent.set(0)
        self._keepers = [asyncio.create_task(self._keep(each)) for each in serving]
        await asyncio.gather(*serving)

    async def aclose(self) -> None:
        """Lets each end what it is at; kills what takes longer than that may."""
        self._stopping.set()
        for process in self._processes:
            process.terminate()
        _, late = await asyncio.wait(self._keepers, timeout=self._drain_s + _LAST_S)
        for process in self._processes:
            process.kill()
        for keeper in late:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, serving: "asyncio.Future[None]") -> None:
        """Keeps one process running."""
        pause_s = _FIRST_PAUSE_S
        while True:
            begun = time.monotonic()
            code = await self._run(serving)
            if not serving.done():
                serving.set_exception(OSError(f"a serving process ended at its start, with {code}"))
                return
            if not self._stopping.is_set():
                log.error("a serving process ended and is started again", extra={"exit_code": code})
                pause_s = _FIRST_PAUSE_S if time.monotonic() - begun > _STEADY_S else min(2 * pause_s, _LONGEST_PAUSE_S)
                await work_or_poll(self._stopping, pause_s)
            if self._stopping.is_set():
                return
            _restarts.add(1)

    async def _run(self, serving: "asyncio.Future[None]") -> int:
        """A process from its start to its end; its exit code."""
        process = _child(self._environ)
        self._processes.add(process)
        try:
            output = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(output), process.stdout)
            if await output.readline() and not serving.done():
                serving.set_result(None)
            await self._listen(process, output)
            return await asyncio.to_thread(process.wait)
        finally:
            self._processes.discard(process)
            self._heard(process)
            process.kill()
            process.stdin.close()  # type: ignore[union-attr]

    async def _listen(self, process: "subprocess.Popen[bytes]", output: asyncio.StreamReader) -> None:
        """Until the end of what a process that serves writes. Kills it when it hangs."""
        rounds = 0
        while True:
            try:
                async with asyncio.timeout(_LISTEN_S):
                    if not await output.readline():
                        return
                rounds = 0
                self._heard(process)
            except TimeoutError:
                rounds += 1
                if rounds == _SILENT:
                    log.warning("a serving process is silent", extra={"pid": process.pid})
                    self._silent.add(process)
                    _silent.set(len(self._silent))
                if rounds == _HUNG:
                    log.error("a serving process hangs and is killed", extra={"pid": process.pid})
                    process.kill()

    def _heard(self, process: "subprocess.Popen[bytes]") -> None:
        self._silent.discard(process)
        _silent.set(len(self._silent))


def _child(environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Not made by the event loop, see `service.processes.pool`."""
    return subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **environ},
    )
