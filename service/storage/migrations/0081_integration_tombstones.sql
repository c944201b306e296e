-- Since when an integration is deleted of which there was much: nobody sees it, and it goes with the last of its rows.
ALTER TABLE integration ADD COLUMN delete_time timestamptz;
