-- KEYS dead | ARGV page start, page size
-- Describes dead letters without their audio. Returns the next page's start ("" at the end) and, per letter: id,
-- reason, entry, bytes, fields, and uid, conversation_id, session, seq, timestamp, sample_rate, length of pcm (false
-- without one).
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local letters = {}
for _, letter in ipairs(page) do
  local fields, reason, entry = opened(letter[2])
  if not fields then
    fields, reason, entry = letter[2], '', ''
  end
  local bytes, pcm = 0, false
  for i = 1, #fields do
    bytes = bytes + #fields[i]
    if i % 2 == 0 and fields[i - 1] == 'pcm' then
      pcm = #fields[i]
    end
  end
  local description = {letter[1], reason, entry, bytes, #fields / 2}
  for _, name in ipairs({'uid', 'conversation_id', 'session', 'seq', 'timestamp', 'sample_rate'}) do
    description[#description + 1] = value_of(fields, name)
  end
  description[#description + 1] = pcm
  letters[#letters + 1] = description
end
return {following(page, ARGV[2]), letters}
