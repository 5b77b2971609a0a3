-- Bytes of an app's files and adapters together: NULL is no limit.
ALTER TABLE apps ADD COLUMN storage_bytes INTEGER CHECK (storage_bytes >= 0);
