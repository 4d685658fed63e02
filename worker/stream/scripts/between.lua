-- KEYS stream | ARGV uid, conversation, last id, page start, page size
-- Looks for the chunks of one conversation up to an entry. Returns the next page's start ("" at the end) and, per chunk, its
-- id and its fields.
local page = redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
local chunks = {}
for _, entry in ipairs(page) do
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  if fields['uid'] == ARGV[1] and fields['conversation_id'] == ARGV[2] and fields['pcm'] then
    chunks[#chunks + 1] = entry
  end
end
return {following(page, ARGV[5]), chunks}
