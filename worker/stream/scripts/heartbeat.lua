-- KEYS workers | ARGV worker, ttl in ms, description, the version of the list that the worker knows (empty at first), a
-- new random version, how often to look for dead workers in ms
-- Returns the version of the list and, if it is another one than the worker knows, all live workers with their
-- descriptions. A worker that starts, leaves or dies changes the version; what it says of itself does not. So a
-- heartbeat costs the same with few and with many workers: the list is read only when it has changed, and once in a
-- while, by the first worker that comes, to forget workers without a recent heartbeat.
-- If the key holds another type, no worker is returned, and the error follows.
local LIST = ' list' -- no name of a worker begins with a space
local now = now_ms()
local set = redis.pcall('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now + ARGV[2], ARGV[3]))
if type(set) == 'table' and set.err then
  return {'', {}, set.err}
end
local version, swept = string.match(redis.call('HGET', KEYS[1], LIST) or '', '^version (%x+) swept (%d+)$')
local has_changed = not version or ARGV[4] == '' or set == 1
local is_fresh = version and now >= tonumber(swept) and now < swept + ARGV[6]
if is_fresh and not has_changed and version == ARGV[4] then
  return {version}
end
local live = {}
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  local expiry, description = string.match(known[i + 1], '^(%d+) (.*)$')
  if expiry and tonumber(expiry) > now then
    live[#live + 1] = known[i]
    live[#live + 1] = description
  elseif known[i] ~= LIST then
    redis.call('HDEL', KEYS[1], known[i])
    has_changed = true
  end
end
version = has_changed and ARGV[5] or version
redis.call('HSET', KEYS[1], LIST, string.format('version %s swept %.0f', version, now))
if version == ARGV[4] then
  return {version}
end
return {version, live}
