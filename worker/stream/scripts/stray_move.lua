#!lua flags=allow-oom,allow-cross-slot-keys
-- KEYS stray stream | ARGV id, the partition's stream, its tombstones, 1 to change nothing
-- Moves one entry into the stream of its partition, its fields unchanged: in one step, so that it is never in both and
-- never in none. A full Redis takes it too, because audio that no worker reads may be what fills it. Returns
--   moved    done; a stream that is empty then is removed
--   gone     the entry is not there (any more)
--   owned    a worker owns the stream, or a batch of it is sealed
--   deleted  its conversation or user was deleted, perhaps after it was pushed
-- The two streams may be of different slots; so only the first key is declared, and the flag allows the others. This
-- needs one node with both slots; beyond one node see `worker.stream.inspection.carrying`.
if redis.call('EXISTS', KEYS[1] .. ':lease') == 1 or redis.call('EXISTS', KEYS[1] .. ':ready') == 1 then
  return 'owned'
end
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return 'gone'
end
local fields = {}
for i = 1, #found[1][2], 2 do
  fields[found[1][2][i]] = found[1][2][i + 1]
end
local tombstones = {fields['uid'] .. '/', fields['uid'] .. '/' .. fields['conversation_id']}
for _, position in ipairs(redis.call('HMGET', ARGV[3], unpack(tombstones))) do
  if position then
    return 'deleted'
  end
end
if ARGV[4] == '1' then
  redis.call('XLEN', ARGV[2])
  return 'moved'
end
redis.call('XADD', ARGV[2], '*', unpack(found[1][2]))
redis.call('XDEL', KEYS[1], ARGV[1])
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
end
return 'moved'
