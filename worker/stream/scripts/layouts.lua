-- KEYS config | ARGV partitions and layouts as they are, partitions and layouts as they become
-- Changes the numbers of partitions that pushers may use. Returns 1, or 0 if the record is another one by now.
local recorded = redis.call('HMGET', KEYS[1], 'partitions', 'layouts')
if recorded[1] ~= ARGV[1] or recorded[2] ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'partitions', ARGV[3], 'layouts', ARGV[4])
return 1
