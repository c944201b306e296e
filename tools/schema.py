"""Writes service/storage/schema.sql, the schema that all migrations together make: `python -m tools.schema`.

A test compares the two: after a new migration, write the file again and read its difference.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path

from service.storage.embedded import EmbeddedPostgres, candidates
from service.storage.migrations import migrate
from tools.third_party import ROOT

SCHEMA = ROOT / "service" / "storage" / "schema.sql"
_HEAD = "-- What the migrations make, to read and to compare. Written by `make schema`; nothing applies it.\n\n"
# Settings of the session, comments and meta-commands of psql.
_NOISE = re.compile(r"^(SET |COMMENT ON SCHEMA|SELECT pg_catalog\.set_config|--|\\).*\n", re.MULTILINE)
_ARGUMENTS = ("--schema-only", "--no-owner", "--no-privileges", "--schema=public")


async def dump(url: str) -> str:
    """The schema of a database as statements."""
    process = await asyncio.create_subprocess_exec(
        next(candidates()) / "pg_dump", *_ARGUMENTS, f"--dbname={url}", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("pg_dump failed")
    text = _NOISE.sub("", out.decode()).replace("CREATE SCHEMA public;\n", "").replace("public.", "")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


async def _write() -> None:
    with tempfile.TemporaryDirectory(prefix="evb-") as directory:
        server = EmbeddedPostgres(Path(directory))
        url = await server.start()
        try:
            await migrate(url)
            SCHEMA.write_text(_HEAD + await dump(url), encoding="utf-8")
        finally:
            await server.stop()


if __name__ == "__main__":
    sys.exit(asyncio.run(_write()))
