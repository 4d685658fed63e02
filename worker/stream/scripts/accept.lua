-- KEYS lease, stream, epoch | ARGV token, group, consumer, last id, id…
-- Makes entries that XREAD has read pending in the group, by the same command that Redis itself writes to its replicas
-- and its log for an XREADGROUP. So reading changes nothing and may be repeated, and payloads never pass through Lua.
-- Returns the ids that exist; the others vanished since they were read. Counts the entries that are read for the first
-- time, so that account.lua can tell how many never were.
local accepted = {}
sliced(5, #ARGV, function(...)
  local slice = {...}
  local count = #slice
  slice[count + 1] = 'LASTID'
  slice[count + 2] = ARGV[4]
  slice[count + 3] = 'FORCE'
  slice[count + 4] = 'JUSTID'
  for _, id in ipairs(redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, unpack(slice))) do
    accepted[#accepted + 1] = id
  end
end)
local highest = redis.call('HGET', KEYS[3], 'highest') or '0-0'
local first_read = 0
for i = #ARGV, 5, -1 do
  if not is_after(ARGV[i], highest) then
    break
  end
  first_read = first_read + 1
end
if first_read > 0 then
  redis.call('HSET', KEYS[3], 'highest', ARGV[#ARGV])
  redis.call('HINCRBY', KEYS[3], 'accepted', first_read)
end
return accepted
