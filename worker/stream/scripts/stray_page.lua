-- KEYS stream | ARGV page start, page size
-- Returns the next page's start ("" at the end) and, per entry, its id, its conversation (cut to more than an id may
-- have; false if it is not a chunk or an end, as far as its fields' names tell) and its number of fields.
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local entries = {}
for _, entry in ipairs(page) do
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  local conversation = fields['uid'] and (fields['pcm'] or fields['end']) and fields['conversation_id']
  entries[#entries + 1] = {entry[1], conversation and string.sub(conversation, 1, 257) or false, #entry[2] / 2}
end
return {following(page, ARGV[2]), entries}
