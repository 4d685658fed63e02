-- KEYS stream
-- Whether a stream may hold audio of ours: its entries, its consumer groups, its oldest entry, and whether its first
-- and its last entry are chunks or ends, as far as their fields' names tell (1 or 0 each). Payloads stay in Redis.
local function is_ours(found)
  local names = {}
  for i = 1, found and #found[2] or 0, 2 do
    names[found[2][i]] = true
  end
  return (names['uid'] and names['conversation_id'] and (names['pcm'] or names['end'])) and 1 or 0
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {redis.call('XLEN', KEYS[1]), #redis.call('XINFO', 'GROUPS', KEYS[1]), first and first[1] or '',
  is_ours(first), is_ours(last)}
