-- KEYS lease, trials | ARGV token, conversation, 1 to begin or 0 to end
-- Marks a suspect conversation before the dangerous work and removes the mark after it: if the worker dies in between,
-- the mark names the cause. Returns how many owners have tried it, this one included. An owner that could not remove
-- its mark, as Redis was away, tries again and counts once: else its end would look like that of several. No name of a
-- conversation has a line break.
local last = ARGV[2] .. '\n'
if ARGV[3] == '0' then
  return redis.call('HDEL', KEYS[2], ARGV[2], last)
end
if redis.call('HGET', KEYS[2], last) == ARGV[1] then
  return tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or 1)
end
redis.call('HSET', KEYS[2], last, ARGV[1])
return redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
