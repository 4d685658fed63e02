-- KEYS lease, trials | ARGV token, conversation, 1 to begin or 0 to end
-- Marks a suspect conversation before the dangerous work and removes the mark after it: if the worker dies in between,
-- the mark names the cause. Returns how often it was tried, this time included.
if ARGV[3] == '0' then
  return redis.call('HDEL', KEYS[2], ARGV[2])
end
return redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
