-- What proves that the disk has room again once it was full, see heartbeat_room.
ALTER TABLE heartbeat ADD COLUMN ballast bytea;
ALTER TABLE heartbeat ALTER COLUMN ballast SET STORAGE EXTERNAL;
