-- Prepended to scripts that compare positions in a stream, or must know which stream it is. Ids are compared as two
-- numbers: as text "9-0" would come after "10-0". As times they prove nothing: a clock may be set back, and an id may
-- be of the future.
local MAX_ID = '18446744073709551615-18446744073709551615'

-- An entry id as two numbers. A tombstone of former versions is a time: it covers its whole millisecond.
local function order_of(id)
  local ms, sequence = string.match(id, '^(%d+)%-?(%d*)$')
  return tonumber(ms), tonumber(sequence) or math.huge
end

local function is_after(id, other)
  local ms, sequence = order_of(id)
  local other_ms, other_sequence = order_of(other)
  return ms > other_ms or (ms == other_ms and sequence > other_sequence)
end

-- Whether an entry was pushed before a deletion; `tombstone` is the deletion's position, nil or false without one.
local function is_up_to(id, tombstone)
  return tombstone and not is_after(id, tombstone) or false
end

-- The random id of a stream; nil if it has none yet. It is in the name of a consumer that never reads, "stream:" and
-- the id, so it comes and goes with the stream's own data.
local function known_stream_id(stream, group)
  for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local found = string.match(flat_to_table(flat)['name'], '^stream:(%x+)$')
    if found then
      return found
    end
  end
end

-- The same, nil only if the stream does not exist. A missing group or consumer is made, the id from `random`, 32 hex
-- digits.
local function stream_id(stream, group, random)
  if redis.call('EXISTS', stream) == 0 then
    return nil
  end
  local created = redis.pcall('XGROUP', 'CREATE', stream, group, '0')
  if created.err and not string.find(created.err, 'BUSYGROUP', 1, true) then
    error(created)
  end
  local known = known_stream_id(stream, group)
  if not known then
    redis.call('XGROUP', 'CREATECONSUMER', stream, group, 'stream:' .. random)
  end
  return known or random
end
