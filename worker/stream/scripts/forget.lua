-- KEYS dead | ARGV uid, conversation or "" for all, page start, page size
-- Removes dead letters of a deleted user or conversation, page by page: they hold audio too, and a replay would restore
-- it. Returns the next page's start ("" at the end) and how many were removed.
local page = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[4])
local removed = 0
for _, letter in ipairs(page) do
  local fields = opened(letter[2])
  if fields and value_of(fields, 'uid') == ARGV[1]
    and (ARGV[2] == '' or value_of(fields, 'conversation_id') == ARGV[2]) then
    removed = removed + redis.call('XDEL', KEYS[1], letter[1])
  end
end
return {following(page, ARGV[4]), removed}
