-- KEYS lease, stream, epoch, lost | ARGV token, ttl of `lost` in ms
-- Returns how many more entries have left the stream before an owner had read them: all that were ever added, without
-- those that were read and those that were missed before. It counts only when all entries are read; else it returns 0.
local known = redis.call('HMGET', KEYS[3], 'highest', 'accepted', 'missed')
if not known[1] or #redis.call('XRANGE', KEYS[2], '(' .. known[1], '+', 'COUNT', 1) > 0 then
  return 0
end
local added = flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))['entries-added']
local missed = added - known[2] - (known[3] or 0)
if missed <= 0 then
  return 0
end
redis.call('HINCRBY', KEYS[4], 'unread', missed)
redis.call('PEXPIRE', KEYS[4], ARGV[2])
redis.call('HINCRBY', KEYS[3], 'missed', missed)
return missed
