-- KEYS lease, stream, epoch, lost | ARGV token, ttl of `lost` in ms
-- Returns how many more entries have left the stream before an owner had read them: all that were ever added, without
-- those that were read and those that were missed before. It counts only when all entries are read; else it returns 0.
-- On another server than the last time it begins anew: that server may have forgotten that entries were read, and those
-- up to the last one that is read there do not count again.
local known = redis.call('HMGET', KEYS[3], 'highest', 'accepted', 'missed', 'recount')
if not known[1] or #redis.call('XRANGE', KEYS[2], '(' .. known[1], '+', 'COUNT', 1) > 0 then
  return 0
end
local added = flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))['entries-added']
if known[4] then
  redis.call('HSET', KEYS[3], 'accepted', added - (known[3] or 0))
  redis.call('HDEL', KEYS[3], 'recount')
  return 0
end
local missed = added - known[2] - (known[3] or 0)
if missed <= 0 then
  return 0
end
redis.call('HINCRBY', KEYS[4], 'unread', missed)
redis.call('PEXPIRE', KEYS[4], ARGV[2])
redis.call('HINCRBY', KEYS[3], 'missed', missed)
return missed
