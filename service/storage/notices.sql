-- name: notices_tell
-- tenant: any, because what one process tells of all of them goes out together. Without topics it says that all is well.
SELECT pg_notify($1, topic) FROM unnest($2::text[]) AS topic
