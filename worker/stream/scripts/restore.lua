-- KEYS stream, deleted | ARGV tombstone, last entry that the deletion covers
-- Records again a deletion that Redis has forgotten, and never shortens one that it knows. It does not reach beyond the
-- stream's last entry: after a failover to a clock that is behind, later ids may be smaller.
local last = redis.call('EXISTS', KEYS[1]) == 1 and
  flat_to_table(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id'] or '0-0'
local covered = is_after(ARGV[2], last) and last or ARGV[2]
if not is_up_to(covered, redis.call('HGET', KEYS[2], ARGV[1])) then
  redis.call('HSET', KEYS[2], ARGV[1], covered)
end
return covered
