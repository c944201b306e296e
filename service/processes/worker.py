"""One process: it reads jobs from its standard input, and writes what they make to its standard output.

It imports neither grpc nor a database, and knows no secret. It ends with its input, with the process that started it,
and when a job takes too long.
"""

import ctypes
import os
import signal
import struct
import sys
import traceback
from typing import BinaryIO

from service.domain.pricing.jobs import run
from service.errors import InvalidArgument
from service.processes.frames import FAILED, HEADER, JOB, MADE, REFUSED, violations_to_text

_PR_SET_PDEATHSIG = 1


def main(most_s: float) -> None:
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(5)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    while header := source.read(JOB.size):
        name, size = JOB.unpack(header)
        payload = _whole(source, size)
        signal.setitimer(signal.ITIMER_PROF, most_s)
        kind, answer = _answer(name.rstrip(b"\0").decode(), payload)
        signal.setitimer(signal.ITIMER_PROF, 0)
        target.write(HEADER.pack(kind, len(answer)) + answer)
        target.flush()


def _answer(job: str, payload: bytes) -> tuple[int, bytes]:
    try:
        return MADE, run(job, payload)
    except InvalidArgument as error:
        return REFUSED, violations_to_text(error)
    except Exception:
        return FAILED, traceback.format_exc().encode()


def _whole(source: BinaryIO, size: int) -> bytes:
    payload = source.read(size)
    if len(payload) < size:
        sys.exit()
    return payload


def _end_with_parent() -> None:
    """On Linux, even while a job runs; elsewhere when it is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]))
    except (BrokenPipeError, struct.error):
        sys.exit()
