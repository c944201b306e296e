-- Integrations that were stored before 0029 and never since: their lists are pulled, too. When, stands in their payloads, so
-- service.storage.steps reads it, in the transaction of this file.

SELECT;  -- a file without a statement is none

-- step: pull_schedules
