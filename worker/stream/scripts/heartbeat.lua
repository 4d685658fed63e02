-- KEYS workers | ARGV worker, ttl in ms, description
-- Returns all live workers with their descriptions; forgets workers without a recent heartbeat. If the key holds
-- another type, no worker is returned, and the error follows.
local now = now_ms()
local set = redis.pcall('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + ARGV[2], ARGV[3]))
if type(set) == 'table' and set.err then
  return {{}, set.err}
end
local live = {}
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  local expiry, description = string.match(known[i + 1], '^(%d+) (.*)$')
  if expiry and tonumber(expiry) > now then
    live[#live + 1] = known[i]
    live[#live + 1] = description
  else
    redis.call('HDEL', KEYS[1], known[i])
  end
end
return {live}
