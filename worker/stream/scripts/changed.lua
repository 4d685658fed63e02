-- KEYS lease, epoch | ARGV token
-- Returns the Redis time in ms at which an owner first saw the partition on another server process than the owner before,
-- 0 if none ever did. A failover or a restart may have forgotten seals and done steps of entries that are older.
local server = run_id()
local known = redis.call('HGET', KEYS[2], 'server')
if known ~= server then
  redis.call('HSET', KEYS[2], 'server', server)
  if known then
    redis.call('HSET', KEYS[2], 'changed', string.format('%.0f', now_ms()))
  end
end
return tonumber(redis.call('HGET', KEYS[2], 'changed') or '0')
