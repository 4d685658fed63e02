-- What is remembered of a conversation's stored chunks, unless it was deleted since: then the same audio, pushed again,
-- is new. Every batch that adds to it sets its full time to live, which so tells when that was.
local function remembered(seen, deleted, names, ttl)
  local identities = redis.call('GET', seen)
  if not identities then
    return ''
  end
  local noted_at = now_ms() - (ttl - redis.call('PTTL', seen))
  for _, tombstone in ipairs(names) do
    local deleted_at = redis.call('HGET', deleted, tombstone)
    if deleted_at and noted_at <= tonumber(deleted_at) then
      return ''
    end
  end
  return identities
end
