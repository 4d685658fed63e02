-- KEYS stream, done, withdrawn | ARGV object, ttl in ms, entry id…
-- Gives up an object whose seal is gone. Returns
--   counted    an event names the object: another owner has found it
--   waiting    entries are still in the stream: a worker that reads them may find the object and count it, so ask again
--   uncounted  the entries are gone, and other objects hold their audio; from now on a done step can't count this one
--   unknown    all events are younger than the entries: an event that named the object may be gone
local first_ms = tonumber(string.match(ARGV[3], '^%d+'))
local function is_told_since(from)
  for _, event in ipairs(redis.call('XRANGE', KEYS[2], from, '+')) do
    if flat_to_table(event[2])['object'] == ARGV[1] then
      return true
    end
  end
  return false
end
if is_told_since(string.format('%.0f', first_ms)) then
  return 'counted'
end
for i = 3, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) > 0 then
    return 'waiting'
  end
end
local events = redis.call('EXISTS', KEYS[2]) == 1 and flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local complete = events and (events['entries-added'] == events['length'] or
  (oldest and tonumber(string.match(oldest[1], '^%d+')) < first_ms))
if is_told_since('-') then -- by a server whose clock was behind: rare, and most events are asked only here
  return 'counted'
elseif not complete then
  return 'unknown'
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[2])
return 'uncounted'
