-- name: read_page_get
SELECT payload, rejects, next_link FROM read_page WHERE tenant_id = $1 AND run_id = $2 AND list = $3 AND number = $4

-- name: read_page_put
INSERT INTO read_page (tenant_id, run_id, list, number, payload, rejects, next_link) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: read_pages_forget
DELETE FROM read_page WHERE tenant_id = $1 AND run_id = $2
