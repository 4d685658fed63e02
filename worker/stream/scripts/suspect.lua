-- KEYS lease, trials | ARGV token, conversation, 1 to begin or 0 to end
-- Marks the conversation under trial before the dangerous work and forgets it after: if the worker dies between, the mark
-- names the culprit. Returns how often it was tried, this time included.
if ARGV[3] == '0' then
  return redis.call('HDEL', KEYS[2], ARGV[2])
end
return redis.call('HINCRBY', KEYS[2], ARGV[2], 1)
