-- Reads the identities of a conversation's stored chunks, unless it was deleted since: then the same audio, pushed
-- again, is new. Before the identities stands a line with the last entry that was stored: a deletion that covers it
-- came later. Returns the identities and that entry.
local function remembered(seen, deleted, names)
  local last, identities = string.match(redis.call('GET', seen) or '', '^(%d+%-%d+)\n(.*)$')
  if not last then
    return '', '0-0'
  end
  for _, tombstone in ipairs(names) do
    if is_up_to(last, redis.call('HGET', deleted, tombstone)) then
      return '', '0-0'
    end
  end
  return identities, last
end
