-- KEYS stream, ready, deleted | ARGV tombstone, retention in ms, group, random stream id
-- Records that a user ("uid/") or a conversation ("uid/conversation") is deleted as of now: what was pushed up to the
-- stream's last id is not stored any more. A position and no time, because Redis' clock may go back, and entries may have
-- ids of the future. Returns this id and the stream's random id, "0-0" and "" if there is no stream: then nothing can be
-- deleted in it, and a former tombstone stays for uploads that are under way.
-- Forgets tombstones that nothing in Redis can meet any more and that are older than the retention, which is for uploads of
-- owners that were paused: of those that it draws, so that it costs the same among many, and few stay longer than they must.
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
local last = flat_to_table(redis.call('XINFO', 'STREAM', KEYS[1]))['last-generated-id']
redis.call('HSET', KEYS[3], ARGV[1], last)
return {last, id}
