-- KEYS stream, seen, deleted, dead, lost | ARGV group, server, stream id, token, ttl in ms, most entries remembered, most
-- dead letters looked at, user tombstone, conversation tombstone, then id and identity of each chunk
-- A worker had chunks of a conversation in hand, on a server and in a stream with these ids. Returns "same" if they are
-- the same now: then nothing was lost, and owners go on with the chunks. Else returns "lost" and the entries that are
-- lost and that the inquiry with this token counts. Those in the stream are their owner's. Others are lost, unless they were stored
-- since, deleted on demand, or moved to the dead letters.
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local stream = not groups.err and #groups > 0 and known_stream_id(KEYS[1], ARGV[1])
if server_id() == ARGV[2] and stream == ARGV[3] then
  return {'same'}
end

local names = {ARGV[8], ARGV[9]}
-- Whether the stream has a chunk. A clock that is behind may have given its id to a chunk of another conversation.
local function is_here(id)
  local found = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not found then
    return false
  end
  local fields = flat_to_table(found[2])
  return (fields['uid'] or '') .. '/' .. (fields['conversation_id'] or '') == ARGV[9]
end

local function is_deleted(id)
  for _, name in ipairs(names) do
    if is_up_to(id, redis.call('HGET', KEYS[3], name)) then
      return true
    end
  end
  return false
end

local gone = {}
for i = 10, #ARGV, 2 do
  if not is_here(ARGV[i]) and not is_deleted(ARGV[i]) then
    gone[#gone + 1] = i
  end
end
if #gone == 0 then
  return {'lost'}
end

local accounted = {}
local identities = remembered(KEYS[2], KEYS[3], names)
for at = 1, #identities, 8 do
  accounted[identities:sub(at, at + 7)] = true
end
for _, letter in ipairs(redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', ARGV[7])) do
  local _, _, entry = opened(letter[2])
  accounted[entry or ''] = true
end
local lost = {'lost'}
for _, i in ipairs(gone) do
  if not accounted[ARGV[i]] and not accounted[ARGV[i + 1]] and is_counted_by(KEYS[5], ARGV[i], ARGV[4], ARGV[6]) then
    lost[#lost + 1] = ARGV[i]
    redis.call('PEXPIRE', KEYS[5], ARGV[5])
  end
end
return lost
