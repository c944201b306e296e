-- name: question_ask
-- Only when somebody listens. Not worth a wait for the disk: who asks is gone when the database has failed.
INSERT INTO question (tenant_id, question_id, kind, integration_id, payload, expire_time)
SELECT $1, $2, $3, $4, $5, now() + $6::interval
FROM set_config('synchronous_commit', 'off', true)
WHERE EXISTS (
    SELECT FROM listener
    WHERE tenant_id = $1 AND kind = $3 AND integration_id IN ('', $4) AND seen_time > now() - $7::interval
)
RETURNING question_id

-- name: question_answered
SELECT answer FROM question WHERE tenant_id = $1 AND question_id = $2

-- name: question_take
-- Those that nobody has, or that somebody has had for too long without an answer. Not worth a wait for the disk either.
UPDATE question AS q SET hand_time = clock_timestamp()
FROM set_config('synchronous_commit', 'off', true), (
    SELECT question_id
    FROM question
    WHERE tenant_id = $1 AND kind = $2 AND answer IS NULL AND expire_time > now() AND hand_time < now() - $3::interval
        AND ($5::text = '' OR integration_id = $5)
    ORDER BY create_time
    LIMIT $4
    FOR UPDATE SKIP LOCKED
) AS due
WHERE q.tenant_id = $1 AND q.question_id = due.question_id
RETURNING q.payload

-- name: question_answer
-- The first answer counts; the same once more is no other.
UPDATE question SET answer = coalesce(answer, $4)
WHERE tenant_id = $1 AND question_id = $2 AND kind = $3 AND (answer = $4 OR answer IS NULL AND expire_time > now())
RETURNING question_id

-- name: listener_seen
INSERT INTO listener (tenant_id, kind, listener_id, integration_id, seen_time) VALUES ($1, $2, $3, $4, now())
ON CONFLICT (tenant_id, kind, listener_id) DO UPDATE SET seen_time = now()

-- name: listener_gone
DELETE FROM listener WHERE tenant_id = $1 AND kind = $2 AND listener_id = $3
