"""A peer that others wrote: an operator made with the package extrawest_ocpi, in an environment of its own."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ocpi.party import TOKEN
from tests.ocpi.test_check import HTTP, Check, check

__all__ = ["check"]

PACKAGES = ("extrawest_ocpi==2025.7.16", "uvicorn==0.54.0")
HERE = Path(sys.prefix) / "peers" / PACKAGES[0].replace("==", "-")

FAULTS = {
    "answers.request-id": "X-Request-ID is not repeated",
    "answers.correlation-id": "X-Correlation-ID is not repeated",
    "token.missing": "a request without a token gets HTTP 403",
    "locations.token": "a request without a token gets HTTP 403",
    "tariffs.token": "a request without a token gets HTTP 403",
    "errors.envelope": "errors of HTTP are those of the framework",
    "versions.slash": "another form of the URL is redirected",
    "locations.slash": "another form of the URL is redirected",
    "tariffs.slash": "another form of the URL is redirected",
    "locations.link": "Link is https whatever is served, and its path holds the names of Python's enums",
    "tariffs.link": "Link is https whatever is served, and its path holds the names of Python's enums",
    "locations.x-limit": "X-Limit is the limit of the request",
    "tariffs.x-limit": "X-Limit is the limit of the request",
    "locations.object": "one location comes as a list",
}

SKIPPED = ("next-page", "receiver-token", "receiver-no-object")


@pytest.fixture
async def peer() -> AsyncIterator[str]:
    """The URL of its versions."""
    async with playing("extrawest.py", TOKEN) as process:
        yield await said(process)


@asynccontextmanager
async def playing(script: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A script of this folder, run by the packages. Skips where they cannot be had."""
    if os.environ.get("EVBRIDGE_SOAK") != "1":
        pytest.skip("installs packages of its own: `make soak` runs it")
    await asyncio.to_thread(installed)
    process = await asyncio.create_subprocess_exec(
        *(HERE / "bin" / "python", Path(__file__).with_name(script), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    """The next line that it prints."""
    assert process.stdout
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


def installed() -> None:
    """The environment is made once."""
    HERE.parent.mkdir(exist_ok=True)
    with (HERE.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (HERE / "complete").exists():
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", HERE], check=True)
        pip = (HERE / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
        if subprocess.run([*pip, *PACKAGES], check=False).returncode:
            pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed here")
        (HERE / "complete").touch()


@pytest.mark.timeout(600)
async def test_its_faults_are_found_and_nothing_else(check: Check, peer: str) -> None:
    report = await check(peer)
    assert report.of("WARN", "FAIL") == set(FAULTS)
    # No Link of it leads to a next page.
    others = {each["check"] for each in report.findings if each["seen"].startswith("the module is not offered")}
    assert report.of("SKIPPED") - others == {
        HTTP,
        *(f"{module}.{check}" for module in ("locations", "tariffs") for check in SKIPPED),
    }
