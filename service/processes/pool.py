"""A few processes for heavy work, shared out among keys."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter, OrderedDict, deque

from service.errors import InvalidArgument
from service.processes.frames import FAILED, HEADER, JOB, REFUSED, violations_of_text

_TRIES = 2


class ProcessLost(Exception):
    """A process ended amid a job, for no fault of the caller's."""


class Processes:
    """Up to `size` processes, started when they are needed. One key has all but one of them at most.

    Jobs wait in a queue for each key; keys take turns. A job whose caller is gone is dropped from the queue, and its
    process, when it has one, is killed. A process that dies is replaced, and its job is done again, once.
    """

    def __init__(self, size: int, most_s: float = 15.0) -> None:
        """`most_s` is the processor time of one job; what it costs is judged before, so none comes near."""
        self._free = max(1, size)
        self._most_s = most_s
        self._per_key = max(1, self._free - 1)
        self._running: Counter[str] = Counter()
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._ends: set[asyncio.Future[int]] = set()

    async def run(self, key: str, job: str, payload: bytes) -> bytes:
        """The job's answer. Raises InvalidArgument, ProcessLost."""
        await self._enter(key)
        try:
            for _ in range(_TRIES):
                process = await self._take()
                try:
                    kind, answer = await process.ask(job, payload)
                except (asyncio.IncompleteReadError, ConnectionError):
                    if await process.end() == -signal.SIGPROF:
                        raise InvalidArgument.field("request", "takes too long to compute: ask for less") from None
                    self._all.discard(process)
                except BaseException:
                    self._abandon(process)
                    raise
                else:
                    self._idle.append(process)
                    return _read(kind, answer)
            raise ProcessLost(f"the process of a {job} job ended, twice")
        finally:
            self._leave(key)

    @property
    def ids(self) -> list[int]:
        """Of the processes that run, by the system's count."""
        return [process.id for process in self._all]

    @property
    def waiting(self) -> int:
        """Jobs in the queues."""
        return sum(map(len, self._queues.values()))

    async def aclose(self) -> None:
        """Ends all processes."""
        await asyncio.gather(*(process.end() for process in self._all), *self._ends)
        self._all.clear()
        self._idle.clear()

    async def _enter(self, key: str) -> None:
        if self._free and self._running[key] < self._per_key and key not in self._queues:
            self._start(key)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._leave(key)
            else:
                self._forget(key, waiter)
            raise

    def _start(self, key: str) -> None:
        self._free -= 1
        self._running[key] += 1

    def _leave(self, key: str) -> None:
        self._free += 1
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._start_next()

    def _start_next(self) -> None:
        """The first job of the first key that may have a process; the key then waits behind the others."""
        for key in list(self._queues) if self._free else ():
            if self._running[key] < self._per_key and (waiter := self._next_of(key)):
                self._start(key)
                waiter.set_result(None)
                return

    def _next_of(self, key: str) -> "asyncio.Future[None] | None":
        """Callers that leave are still in the queue until they notice."""
        queue = self._queues.pop(key)
        while queue and queue[0].done():
            queue.popleft()
        waiter = queue.popleft() if queue else None
        if queue:
            self._queues[key] = queue
        return waiter

    def _forget(self, key: str, waiter: "asyncio.Future[None]") -> None:
        queue = self._queues.get(key)
        if queue and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[key]

    async def _take(self) -> "_Process":
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            self._all.discard(process)
        starting = asyncio.ensure_future(_Process.start(self._most_s))
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._abandon_started)
            raise
        self._all.add(process)
        return process

    def _abandon_started(self, starting: "asyncio.Future[_Process]") -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._abandon(starting.result())

    def _abandon(self, process: "_Process") -> None:
        """Nobody waits for what it computes."""
        self._all.discard(process)
        end = asyncio.ensure_future(process.end())
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)


class _Process:
    """A child, and the pipes to it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", source: asyncio.StreamWriter, target: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._source = source
        self._target = target

    @classmethod
    async def start(cls, most_s: float) -> "_Process":
        loop, process, target = asyncio.get_running_loop(), _child(most_s), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(target), process.stdout)
        transport, writing = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        return cls(process, asyncio.StreamWriter(transport, writing, None, loop), target)

    @property
    def id(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def ask(self, job: str, payload: bytes) -> tuple[int, bytes]:
        """(kind, answer). Raises IncompleteReadError or ConnectionError when the process ends meanwhile."""
        if self._source.is_closing():
            raise ConnectionResetError
        self._source.write(JOB.pack(job.encode(), len(payload)) + payload)
        await self._source.drain()
        kind, size = HEADER.unpack(await self._target.readexactly(HEADER.size))
        return kind, await self._target.readexactly(size)

    async def end(self) -> int:
        """At once. Its exit code, negative for the signal that ended it."""
        self._process.kill()
        code = await asyncio.to_thread(self._process.wait)
        self._source.close()
        return code


def _child(most_s: float) -> "subprocess.Popen[bytes]":
    """Without our settings: it needs none, and some are secret.

    Not made by the event loop: uvloop runs Python between fork and exec, which crashes now and then in a process that
    has threads. It takes a millisecond or two, and in this thread, as the child ends with the thread that made it.
    """
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "service.processes.worker", str(most_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("EVBRIDGE_")},
    )


def _read(kind: int, answer: bytes) -> bytes:
    if kind == REFUSED:
        raise violations_of_text(answer)
    if kind == FAILED:
        raise RuntimeError(answer.decode())
    return answer
