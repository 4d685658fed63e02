-- KEYS stream | ARGV uid, conversation, last id, page start, page size, most bytes (none: no limit)
-- Looks for the chunks of one conversation up to an entry. Returns the next page's start ("" at the end) and, per
-- chunk, its id and its fields. A page ends before these have more than most bytes; a chunk that alone has more comes
-- without its fields of over 256 bytes.
local page = redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[3], 'COUNT', ARGV[5])
local most = tonumber(ARGV[6]) or math.huge
local chunks, total = {}, 0
for number, entry in ipairs(page) do
  local fields, short, bytes = {}, {}, 0
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    fields[name] = value
    bytes = bytes + #name + #value
    if #name + #value <= 256 then
      short[#short + 1] = name
      short[#short + 1] = value
    end
  end
  if fields['uid'] == ARGV[1] and fields['conversation_id'] == ARGV[2] and fields['pcm'] then
    if bytes > most then
      entry, bytes = {entry[1], short}, 0
    elseif total + bytes > most then
      return {'(' .. page[number - 1][1], chunks}
    end
    total = total + bytes
    chunks[#chunks + 1] = entry
  end
end
return {following(page, ARGV[5]), chunks}
