-- KEYS stream, ready, deleted, epoch | ARGV tombstone, retention in ms, group, random stream id
-- Records that a user ("uid/") or a conversation ("uid/conversation") is deleted as of now: entries up to the stream's
-- last id are not stored any more. It records a position and not a time, because Redis' clock may go back, and entries
-- may have ids of the future. Returns this id and the stream's random id, "0-0" and "" without a stream: then it
-- records nothing, and a former tombstone stays for uploads that are in flight. If it has to make the random id, all
-- entries are older than the id, see identify.lua.
-- Forgets tombstones that are older than all entries and seals in Redis, and older than the retention, which is for
-- uploads of owners that were paused. It checks only a random sample, so that many tombstones cost the same as few, and
-- few stay longer than they must.
local DRAWN = 32
local now = now_ms()
local oldest = now - ARGV[2]
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if first then
  oldest = math.min(oldest, (order_of(first[1])))
end
for _, seal in ipairs(redis.call('HKEYS', KEYS[2])) do
  oldest = math.min(oldest, (order_of(seal)))
end
local known = redis.call('HRANDFIELD', KEYS[3], DRAWN, 'WITHVALUES')
for i = 1, #known, 2 do
  if math.min(order_of(known[i + 1]), now) < oldest then
    redis.call('HDEL', KEYS[3], known[i])
  end
end
local id = stream_id(KEYS[1], ARGV[3], ARGV[4])
if not id then
  return {'0-0', ''}
end
local facts = flat_to_table(redis.call('XINFO', 'STREAM', KEYS[1]))
local last = facts['last-generated-id']
if id == ARGV[4] then
  redis.call('HSET', KEYS[4], 'born', facts['length'] > 0 and last or '0-0')
end
redis.call('HSET', KEYS[3], ARGV[1], last)
return {last, id}
