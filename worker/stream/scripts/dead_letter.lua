-- KEYS lease, stream, dead | ARGV token, group, id, reason
-- Moves one entry to the dead letters, its fields unchanged and followed by reason, entry and at. An entry with more
-- fields than unpack() can pass, or one that looks so, keeps them as MessagePack in the one field `packed`.
local found = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])
if #found == 0 then
  return 0
end
local fields = found[1][2]
if #fields > 4000 or fields[1] == 'packed' then
  fields = {'packed', cmsgpack.pack(fields)}
end
local trailer = {'reason', ARGV[4], 'entry', ARGV[3], 'at', string.format('%.3f', now_ms() / 1000)}
for _, value in ipairs(trailer) do
  fields[#fields + 1] = value
end
redis.call('XADD', KEYS[3], '*', unpack(fields))
redis.call('XACK', KEYS[2], ARGV[2], ARGV[3])
redis.call('XDEL', KEYS[2], ARGV[3])
return 1
