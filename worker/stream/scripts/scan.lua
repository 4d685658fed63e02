-- KEYS stream | ARGV uid, conversation, page start, page size
-- Looks for the chunks of one conversation without their audio. Returns the next page's start ("" at the end) and, per
-- chunk: id, seq, timestamp, sample_rate (false without one), length of pcm.
local page = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[4])
local chunks = {}
for _, entry in ipairs(page) do
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  if fields['uid'] == ARGV[1] and fields['conversation_id'] == ARGV[2] and fields['pcm'] then
    chunks[#chunks + 1] = {
      entry[1], fields['seq'] or false, fields['timestamp'] or false, fields['sample_rate'] or false, #fields['pcm'],
    }
  end
end
return {following(page, ARGV[4]), chunks}
