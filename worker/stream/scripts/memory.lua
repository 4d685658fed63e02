-- Reads the identities of a conversation's stored chunks, unless it was deleted since: then the same audio, pushed
-- again, is new. Before the identities stands a line with the last entry that was stored: a deletion that covers it
-- came later. Returns the identities and that entry.
-- If the key holds another type, a third value is true: then nothing is known, and nothing may be written.
local function remembered(seen, deleted, names)
  local found = redis.pcall('GET', seen)
  if type(found) == 'table' then
    return '', '0-0', true
  end
  local last, identities = string.match(found or '', '^(%d+%-%d+)\n(.*)$')
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
