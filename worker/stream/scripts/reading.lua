#!lua flags=no-writes
-- Prepended to scripts that only read. They keep payloads inside Redis, and run when it is full.
