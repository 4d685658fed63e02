-- KEYS stream, done, withdrawn | ARGV object, ttl in ms, entry id…
-- Gives up an object that was made for a seal which is gone. Returns
--   counted    an event tells of the object: another owner has found it
--   uncounted  the entries are still in the stream, or other objects hold their audio; from now on no done step counts it
--   unknown    no event is as old as the entries: one that told of the object may be gone
local first_ms = tonumber(string.match(ARGV[3], '^%d+'))
local from = first_ms <= now_ms() and string.format('%.0f', first_ms) or '-'
for _, event in ipairs(redis.call('XRANGE', KEYS[2], from, '+')) do
  if flat_to_table(event[2])['object'] == ARGV[1] then
    return 'counted'
  end
end
local waiting = false
for i = 3, #ARGV do
  waiting = waiting or #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) > 0
end
local events = redis.call('EXISTS', KEYS[2]) == 1 and flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local complete = events and (events['entries-added'] == events['length'] or
  (oldest and tonumber(string.match(oldest[1], '^%d+')) < first_ms))
if not waiting and not complete then
  return 'unknown'
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[2])
return 'uncounted'
