-- name: migration_table
-- tenant: any, because the schema belongs to the database.
CREATE TABLE IF NOT EXISTS schema_migration (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    apply_time timestamptz NOT NULL DEFAULT now()
)

-- name: migration_floor_table
-- tenant: any, because the schema belongs to the database.
-- The newest migration that a build has to know if it is to serve here.
CREATE TABLE IF NOT EXISTS schema_floor (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL
)

-- name: migration_floor_raise
-- tenant: any, because the schema belongs to the database.
INSERT INTO schema_floor (name) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET name = excluded.name WHERE schema_floor.name < excluded.name

-- name: migration_floor_any
-- tenant: any, because the schema belongs to the database.
SELECT to_regclass('schema_floor') IS NOT NULL

-- name: migration_floor
-- tenant: any, because the schema belongs to the database.
SELECT name FROM schema_floor

-- name: migration_lock
-- tenant: any, because the schema belongs to the database.
SELECT pg_try_advisory_lock($1)

-- name: migration_any
-- tenant: any, because the schema belongs to the database.
SELECT to_regclass('schema_migration') IS NOT NULL

-- name: migration_list
-- tenant: any, because the schema belongs to the database.
SELECT name, sha256 FROM schema_migration

-- name: migration_record
-- tenant: any, because the schema belongs to the database.
INSERT INTO schema_migration (name, sha256) VALUES ($1, $2)

-- name: migration_invalid_indexes
-- tenant: any, because the schema belongs to the database.
-- What an interrupted CREATE INDEX CONCURRENTLY leaves; REINDEX makes its own, which are not ours to drop.
SELECT format('%I', relname)
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace AND relname !~ '_cc(new|old)[0-9]*$'
