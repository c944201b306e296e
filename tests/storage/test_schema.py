"""The schema that people read is the one that databases have."""

import asyncpg

from tools.schema import SCHEMA, dump


async def test_the_schema_that_is_read_is_the_one_that_the_migrations_make(database_url: str) -> None:
    migrated = await dump(database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    await connection.close()
    assert await dump(database_url) == migrated, "run `make schema` and look at the difference"
