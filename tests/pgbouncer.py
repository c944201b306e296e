"""PgBouncer in transaction mode, where there is one: in EVBRIDGE_TEST_PGBOUNCER or among the system's programs."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

from service.storage.embedded import as_user

_PORT = 6432


def programs() -> dict[tuple[int, int], str]:
    """By version."""
    system = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    found = {}
    for program in filter(None, (system, os.environ.get("EVBRIDGE_TEST_PGBOUNCER"))):
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if version := re.search(r"(\d+)\.(\d+)", said):
            found[int(version[1]), int(version[2])] = program
    return found


@dataclass
class Bouncer:
    """`url` leads to the same database as `direct_url`, over at most five of its sessions."""

    program: str
    direct_url: str
    directory: Path
    settings: str
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        direct = urlsplit(self.direct_url)
        user = direct.username or parse_qs(direct.query)["user"][0]
        return f"postgresql://{user}@{direct.path}?host={self.directory}&port={_PORT}"

    async def start(self) -> None:
        """Returns when it listens."""
        direct = urlsplit(self.direct_url)
        query = parse_qs(direct.query)
        host = query["host"][0] if "host" in query else direct.hostname
        where = f"host={host} port={direct.port or query.get('port', ['5432'])[0]}"
        user = direct.username or query["user"][0]
        password = f" password={direct.password}" if direct.password else ""
        file = self.directory / "pgbouncer.ini"
        file.write_text(
            f"""
[databases]
* = {where} user={user}{password}
[pgbouncer]
listen_addr =
listen_port = {_PORT}
unix_socket_dir = {self.directory}
auth_type = any
pool_mode = transaction
default_pool_size = 5
logfile = {self.directory}/log
{self.settings}
"""
        )
        self.process = await asyncio.create_subprocess_exec(*await as_user(), self.program, "--quiet", file)
        while True:
            with suppress(OSError):
                (await asyncio.open_unix_connection(self.directory / f".s.PGSQL.{_PORT}"))[1].close()
                return
            assert self.process.returncode is None, (self.directory / "log").read_text()
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def bouncing(program: str, direct_url: str, settings: str = "") -> AsyncIterator[Bouncer]:
    """`settings` are further lines of its file."""
    with TemporaryDirectory(prefix="evb", dir="/tmp") as directory:
        bouncer = Bouncer(program, direct_url, Path(directory), settings)
        try:
            await bouncer.start()
            yield bouncer
        finally:
            await bouncer.kill()
