-- KEYS lease, stream, ready, deleted, epoch | ARGV token, group, consumer, seal id, seal, user tombstone,
-- conversation tombstone, id…
-- Fixes a batch's composition finally, if the entries that the owner holds are pending in Redis. Returns "sealed", or
-- the reason why the owner must read the partition again:
--   redis_changed  the partition was not taken over on this server, which may have lost entries that the owner holds,
--                  and may have others behind those that the owner has read
--   foreign        another consumer has pending entries in the group
--   deleted        the conversation or user was deleted after the batch's first entry
--   other          the first entry is sealed already, with another composition
--   vanished       entries are gone from the stream; their ids follow
if not is_known_server(KEYS[5]) then
  return {'redis_changed'}
end
for _, consumer in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2])[4] or {}) do
  if consumer[1] ~= ARGV[3] then
    return {'foreign'}
  end
end
for _, tombstone in ipairs({ARGV[6], ARGV[7]}) do
  if is_up_to(ARGV[4], redis.call('HGET', KEYS[4], tombstone)) then
    return {'deleted'}
  end
end
local present = {}
sliced(8, #ARGV, function(...)
  local slice = {...}
  slice[#slice + 1] = 'JUSTID'
  for _, id in ipairs(redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, unpack(slice))) do
    present[id] = true
  end
end)
local vanished = {'vanished'}
for i = 8, #ARGV do
  if not present[ARGV[i]] then
    vanished[#vanished + 1] = ARGV[i]
  end
end
if #vanished > 1 then
  return vanished
end
if redis.call('HSETNX', KEYS[3], ARGV[4], ARGV[5]) == 0 and redis.call('HGET', KEYS[3], ARGV[4]) ~= ARGV[5] then
  return {'other'}
end
return {'sealed'}
