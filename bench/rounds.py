"""Rounds: several servers, each a process of its own, get the same calls from the same client, in turns.

Processes share the machine's processors, so beside the calls a second stands what each call cost the server in
processor time.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import load

BURST_S = 10.0
"""For evbridge under measurement: what is measured is work, not refusals."""
_TICKS = os.sysconf("SC_CLK_TCK")
_spawn = multiprocessing.get_context("spawn")


class Child(NamedTuple):
    """A process of the benchmark and the pipe to it."""

    pid: int
    pipe: Connection

    def cpu_s(self) -> float:
        """User and system time of all its threads so far, in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def ask(self, question: Any) -> Any:
        self.pipe.send(question)
        return self.pipe.recv()


class Round(NamedTuple):
    """What one server did in one round; processor time is in microseconds a call."""

    rate: float
    p50_ms: float
    p99_ms: float
    server_us: float
    client_us: float
    calls: int


@contextmanager
def child(main: Callable[..., None], *arguments: Any) -> Iterator[Child]:
    """A process that runs `main(pipe, *arguments)` until our end of the pipe is closed."""
    ours, theirs = _spawn.Pipe()
    process = _spawn.Process(target=main, args=(theirs, *arguments))
    process.start()
    theirs.close()
    assert process.pid is not None
    try:
        yield Child(process.pid, ours)
    finally:
        ours.close()
        process.join()


def play(server: Child, client: Child, call: Any, seconds: float) -> Round:
    before = server.cpu_s(), client.cpu_s()
    done: load.Done = client.ask((call, seconds))
    used = server.cpu_s() - before[0], client.cpu_s() - before[1]
    server_us, client_us = (seconds / done.calls * 1e6 for seconds in used)
    return Round(done.calls / done.seconds, done.p50_ms, done.p99_ms, server_us, client_us, done.calls)


def ratio(turns: Sequence[dict[str, Round]], name: str, other: str) -> float:
    """How many calls a second `name` makes for one of `other`: the median of what it was within each round."""
    return median(turn[name].rate / turn[other].rate for turn in turns)


def show(turns: Sequence[dict[str, Round]], against: Sequence[str], items: int = 1) -> None:
    """A line for each server; `items` are what a call handles, `against` whom the calls a second are compared with."""
    rates = "".join(f"{f'of {name}':>9}" for name in against)
    print(
        f"{'':6}{'calls/s':>9}{'items/s':>9}{rates}{'p50 ms':>9}{'p99 ms':>9}{'CPU us':>9}"
        f"{f'of {against[0]}':>9}{'client us':>11}"
    )
    for name in turns[0]:
        rate, p50, p99, server_us, client_us, _ = (
            median(column) for column in zip(*(turn[name] for turn in turns), strict=True)
        )
        rates = "".join(f"{ratio(turns, name, other):9.2f}" for other in against)
        of_cpu = median(turn[name].server_us / turn[against[0]].server_us for turn in turns)
        print(
            f"{name:6}{rate:9.0f}{rate * items:9.0f}{rates}{p50:9.1f}{p99:9.1f}{server_us:9.0f}{of_cpu:9.2f}"
            f"{client_us:11.0f}",
            flush=True,
        )
