-- KEYS stream, epoch, deleted, withdrawn | ARGV group, first entry of a batch, user tombstone, conversation tombstone
-- Of a batch that has left Redis: whether it was deleted, and whether its upload was given up (1 or 0 each). Then the
-- stream's random id ("" without one), and the last entry whose fate Redis may have forgotten.
local deleted = 0
for _, tombstone in ipairs({ARGV[3], ARGV[4]}) do
  if is_up_to(ARGV[2], redis.call('HGET', KEYS[3], tombstone)) then
    deleted = 1
  end
end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local id = not groups.err and #groups > 0 and known_stream_id(KEYS[1], ARGV[1]) or ''
local known = redis.call('HMGET', KEYS[2], 'changed', 'server')
local changed = known[1] or '0-0'
if known[2] and known[2] ~= server_id() then
  changed = MAX_ID -- no owner has looked at the stream since a failover
end
changed = string.find(changed, '-', 1, true) and changed or changed .. '-0'
return {deleted, redis.call('EXISTS', KEYS[4]), id, changed}
