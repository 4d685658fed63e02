-- KEYS stream, ready, deleted | ARGV tombstone, retention in ms
-- Records that a user ("uid/") or a conversation ("uid/conversation") is deleted as of now: what was pushed up to now is not
-- stored any more. Forgets tombstones that nothing in Redis can meet any more and that are older than the retention, which
-- is for uploads of owners that were paused: of those that it draws, so that it costs the same among many, and few stay
-- longer than they must. Returns Redis' time in ms.
local DRAWN = 32
local now = now_ms()
local oldest = now - ARGV[2]
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if first then
  oldest = math.min(oldest, tonumber(string.match(first[1], '^%d+')))
end
for _, seal in ipairs(redis.call('HKEYS', KEYS[2])) do
  oldest = math.min(oldest, tonumber(string.match(seal, '^%d+')))
end
local known = redis.call('HRANDFIELD', KEYS[3], DRAWN, 'WITHVALUES')
for i = 1, #known, 2 do
  if tonumber(known[i + 1]) < oldest then
    redis.call('HDEL', KEYS[3], known[i])
  end
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', now))
return now
