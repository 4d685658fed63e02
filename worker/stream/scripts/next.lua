-- KEYS stream | ARGV id, most bytes
-- The entry after an id: its own id, the bytes of its field names and values, and these unless they have more than most
-- bytes.
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)[1]
if not found then
  return {}
end
local bytes = 0
for _, part in ipairs(found[2]) do
  bytes = bytes + #part
end
return {found[1], bytes, bytes <= tonumber(ARGV[2]) and found[2] or {}}
