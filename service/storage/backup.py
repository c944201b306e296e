"""Copies of the embedded database: made while it works, checked, and made a database of again.

<folder>/data          the cluster, with the log of what was written while it was copied, and PostgreSQL's manifest
<folder>/secrets.keys  when it was to go along
"""

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

from service.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError, output

KEYS: Final = "secrets.keys"
_MANIFEST: Final = "backup_manifest"
_RECOVERS: Final = ("restore_command=false", "hot_standby=off")
"""Nothing is fetched from elsewhere, and nobody is let in before it is done."""


async def backup(server: EmbeddedPostgres, folder: Path, secrets_keys: Path | None = None) -> None:
    """Copies a server that runs. What was acknowledged before the copy ended is in it, and nothing that came later.

    Raises EmbeddedPostgresError.
    """
    program = await server.binaries() / "pg_basebackup"
    copy = await asyncio.to_thread(_place, program, folder)
    arguments = ("--checkpoint=fast", "--manifest-checksums=SHA256", "-d", server.dsn(), "-D", str(copy / "data"))
    await output(str(program), *arguments)
    await asyncio.to_thread(_verify, copy / "data")
    if secrets_keys:
        shutil.copy2(secrets_keys, copy / KEYS)
    copy.rename(folder)


async def restore(folder: Path, server: EmbeddedPostgres) -> None:
    """Makes the data of a server that has none, all or nothing. Raises EmbeddedPostgresError.

    It goes on in a new timeline: who watched the server that was copied may have seen what this one lacks.
    """
    new = EmbeddedPostgres(server.root / "new", _RECOVERS)
    await asyncio.to_thread(_lay_out, folder, server, new)
    try:
        await new.start()
    finally:
        await new.stop()
    new.data.rename(server.data)
    shutil.rmtree(new.root)


def _place(program: Path, folder: Path) -> Path:
    """Where the copy is made: it has its name once it is whole."""
    if not program.exists():
        raise EmbeddedPostgresError(f"there is no {program}: set EVBRIDGE_PG_BIN to binaries that have it")
    if folder.exists():
        raise EmbeddedPostgresError(f"{folder} is there already: name a directory that is not")
    copy = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o700, parents=True)
    return copy


def _lay_out(folder: Path, server: EmbeddedPostgres, new: EmbeddedPostgres) -> None:
    if not (folder / "data" / _MANIFEST).exists():
        raise EmbeddedPostgresError(f"{folder} is no backup")
    if server.data.exists():
        raise EmbeddedPostgresError(f"{server.root} holds a database: move it away, or set EVBRIDGE_DATA_DIR")
    shutil.rmtree(new.root, ignore_errors=True)
    for directory in (server.root.parent, server.root, new.root):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copytree(folder / "data", new.data)
    _verify(new.data)
    (new.data / "recovery.signal").touch()


def _verify(data: Path) -> None:
    """Compares each file with the manifest. The log is not in there: it is checked when it is read.

    By hand, since pg_verifybackup crashes in the wheel that the binaries mostly come from.
    """
    manifest = json.loads((data / _MANIFEST).read_bytes())
    for each in manifest["Files"]:
        path = data / (each.get("Path") or bytes.fromhex(each["Encoded-Path"]).decode())
        try:
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == each["Checksum"]
        except FileNotFoundError:
            whole = False
        if not whole:
            raise EmbeddedPostgresError(f"the copy is damaged: {path.relative_to(data)} is not as it was written")
