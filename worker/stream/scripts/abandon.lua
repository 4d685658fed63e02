-- KEYS stream, done, withdrawn | ARGV object, ttl in ms, conversation id, digest of its chunks, number of objects of
-- other uploads, these objects, entry id…
-- Gives up an object whose seal is gone. Returns its fate, and the object that an event names:
--   counted    an event names it, or an object with the same chunks: this upload may have that name too, as the next
--              one of a name that was taken, or after a conversion
--   waiting    entries are still in the stream: a worker that reads them may find the object and count it, so ask again
--   uncounted  the entries are gone, and other objects hold their audio; from now on a done step can't count this one
--   unknown    all events are younger than the entries: an event that named the object may be gone
local first_entry = 6 + tonumber(ARGV[5])
local of_others = {}
for i = 6, first_entry - 1 do
  of_others[ARGV[i]] = true
end
local first_ms = tonumber(string.match(ARGV[first_entry], '^%d+'))
local function told_since(from)
  for _, event in ipairs(redis.call('XRANGE', KEYS[2], from, '+')) do
    local fields = flat_to_table(event[2])
    local has_its_chunks = fields['conversation_id'] == ARGV[3] and fields['chunks_digest'] == ARGV[4]
    if (fields['object'] == ARGV[1] or has_its_chunks) and not of_others[fields['object']] then
      return fields['object']
    end
  end
  return nil
end
local told = told_since(string.format('%.0f', first_ms))
if told then
  return {'counted', told}
end
for i = first_entry, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) > 0 then
    return {'waiting', ''}
  end
end
local events = redis.call('EXISTS', KEYS[2]) == 1 and flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local complete = events and (events['entries-added'] == events['length'] or
  (oldest and tonumber(string.match(oldest[1], '^%d+')) < first_ms))
told = told_since('-') -- by a server whose clock was behind: rare, and most events are asked only here
if told then
  return {'counted', told}
elseif not complete then
  return {'unknown', ''}
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[2])
return {'uncounted', ''}
