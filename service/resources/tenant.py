"""A tenant as a folder: written from one database, read into another.

    manifest.json    whose it is, how many lines each file has and their hash, what was left out; written last
    location.jsonl   a row of the table of that name a line

Secrets leave a database only under a key that was made for it. API keys and partners' tokens are hashes, which open
where the server has the same secrets keys: they go with the secrets.
"""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from uuid import UUID, uuid4

from service.domain.caller import Caller
from service.resources.audit import audit_command
from service.storage.api_key import tenant_ensure
from service.storage.connection import Connection
from service.storage.keyring import Keyring, SealBroken, associated
from service.storage.migrations import newest
from service.storage.pool import Database
from service.storage.tenant import (
    TABLES,
    Row,
    tenant_fill,
    tenant_imported,
    tenant_lock,
    tenant_rows,
    tenant_snapshot,
)

MANIFEST = "manifest.json"
_FORMAT = 1
_HASHES = ("api_key", "partner_token")
_WITH_KEY = ("secret", *_HASHES)
_PURPOSE = "export"
_CHUNK = 1 << 20


class FolderInvalid(Exception):
    """A folder that cannot be written to, is no whole export, or does not fit this build, database or key."""


@dataclass
class Manifest:
    """`files`: by table, lines and SHA-256. `digests`: proves which secrets keys the hashes belong to.

    The last three are left out: secrets and partners' tokens, by integration, and API keys, by name.
    """

    tenant: str
    export_id: str = field(default_factory=lambda: str(uuid4()))
    create_time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    format: int = _FORMAT
    evbridge: str = field(default_factory=lambda: version("evbridge"))
    schema: str = field(default_factory=newest)
    digests: str = ""
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    without_secrets: list[str] = field(default_factory=list)
    without_tokens: list[str] = field(default_factory=list)
    without_keys: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(lines for lines, _ in self.files.values())

    def leave_out(self, table: str, row: Row) -> None:
        left = {"secret": self.without_secrets, "partner_token": self.without_tokens, "api_key": self.without_keys}
        name = row["resource"].partition("/")[2] if table == "secret" else row.get("integration_id") or row["name"]
        if name not in left[table]:
            left[table].append(name)


async def tenant_export(
    database: Database, keyring: Keyring | None, tenant_id: str, folder: Path, secrets_key: Keyring | None
) -> Manifest:
    """All as of one moment. `keyring` is needed with `secrets_key`. Raises FolderInvalid, SealBroken."""
    _make(folder)
    manifest = Manifest(tenant_id)
    if keyring and secrets_key:
        manifest.digests = keyring.digest(_PURPOSE, UUID(manifest.export_id).bytes).hex()
    async with database.transaction() as conn:
        await tenant_snapshot(conn)
        for table in TABLES:
            rows = tenant_rows(conn, tenant_id, table)
            if table in _WITH_KEY and not (keyring and secrets_key):
                async for row in rows:
                    manifest.leave_out(table, row)
                continue
            if table == "secret" and keyring and secrets_key:
                rows = (_resealed(row, keyring, tenant_id, secrets_key, tenant_id) async for row in rows)
            manifest.files[table] = await _write(folder / f"{table}.jsonl", rows)
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def manifest_of(folder: Path) -> Manifest:
    """Raises FolderInvalid when the export did not end, was altered since, or is of another build."""
    path = folder / MANIFEST
    if not path.exists():
        raise FolderInvalid(f"{folder} has no {MANIFEST}: it is no export, or one that did not end")
    try:
        manifest = Manifest(**json.loads(path.read_text()))
        UUID(manifest.export_id)
    except (ValueError, TypeError):
        raise FolderInvalid(f"{path} is not what an export writes") from None
    if (manifest.format, manifest.schema) != (_FORMAT, newest()):
        raise FolderInvalid(
            f"{folder} was written by evbridge {manifest.evbridge} at migration {manifest.schema}, and this one is at "
            f"{newest()}: use the same build on both sides, and upgrade before or after"
        )
    for table, (lines, sha256) in manifest.files.items():
        if table not in TABLES or _measured(folder / f"{table}.jsonl") != (lines, sha256):
            raise FolderInvalid(f"{folder / table}.jsonl is not as it was exported: copy the directory again")
    return manifest


async def tenant_import(
    database: Database, keyring: Keyring, caller: Caller, folder: Path, manifest: Manifest, secrets_key: Keyring | None
) -> datetime | None:
    """Reads a folder whose manifest was checked into the caller's tenant, as one transaction: all of it or nothing.

    When the tenant was made of this export before, returns when, and changes nothing. Raises FolderInvalid.
    """
    tenant_id, export_id = caller.tenant_id, UUID(manifest.export_id)
    async with database.transaction() as conn:
        await tenant_ensure(conn, tenant_id)
        made = await tenant_lock(conn, tenant_id)
        if made and made.export_id == export_id:
            return made.import_time
        if made and made.used:
            raise FolderInvalid(f"the tenant {tenant_id} is in use: import as another one, with --tenant")
        for table in manifest.files:
            if table in _HASHES and not hashes_fit(keyring, tenant_id, manifest):
                continue
            await _fill(conn, tenant_id, table, folder / f"{table}.jsonl", keyring, manifest, secrets_key)
        await tenant_imported(conn, tenant_id, export_id)
        caller.trail.add("tenant", [tenant_id], 1)
        await audit_command(conn, keyring, caller, "evbridge import")
    return None


def hashes_fit(keyring: Keyring, tenant_id: str, manifest: Manifest) -> bool:
    """Whether API keys and partners' tokens come along: under the same secrets keys, for a tenant of the same name.

    Under another name they might be there twice, and nobody could say whose they are.
    """
    digests = keyring.digests(_PURPOSE, UUID(manifest.export_id).bytes)
    return tenant_id == manifest.tenant and bytes.fromhex(manifest.digests) in digests


async def _fill(
    conn: Connection,
    tenant_id: str,
    table: str,
    path: Path,
    keyring: Keyring,
    manifest: Manifest,
    secrets_key: Keyring | None,
) -> None:
    line = 0

    def rows() -> Iterator[Row]:
        nonlocal line
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):  # noqa: B007
                yield json.loads(text)

    found: Iterable[Row] = rows()
    if table == "secret":
        if secrets_key is None:
            raise FolderInvalid("the export holds secrets: name the file with their key, with --secrets-key")
        found = (_resealed(row, secrets_key, manifest.tenant, keyring, tenant_id) for row in found)
    try:
        await tenant_fill(conn, tenant_id, table, found)
    except SealBroken as broken:
        raise FolderInvalid(f"the secrets cannot be opened with this key: {broken}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FolderInvalid(f"{path}:{line} is not what an export writes: {error}") from None


def _resealed(row: Row, opens: Keyring, of: str, seals: Keyring, to: str) -> Row:
    """Raises SealBroken."""
    name = (row["resource"], row["field"])
    secret = opens.open(base64.b64decode(row["sealed"]), associated(of, *name))
    return row | {"sealed": base64.b64encode(seals.seal(secret, associated(to, *name))).decode()}


def _make(folder: Path) -> None:
    """For its owner only. Raises FolderInvalid when something is in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FolderInvalid(f"{folder} is not empty: export to a new directory")


async def _write(path: Path, rows: AsyncIterator[Row]) -> tuple[int, str]:
    lines, hashed = 0, hashlib.sha256()
    with path.open("xb") as file:
        async for row in rows:
            text = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            file.write(text)
            hashed.update(text)
            lines += 1
    return lines, hashed.hexdigest()


def _measured(path: Path) -> tuple[int, str] | None:
    """How many lines the file has, and its hash."""
    lines, hashed = 0, hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                lines += chunk.count(b"\n")
                hashed.update(chunk)
    except FileNotFoundError:
        return None
    return lines, hashed.hexdigest()
