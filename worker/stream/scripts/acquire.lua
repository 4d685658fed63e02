-- KEYS lease, epoch | ARGV worker, random part, ttl in ms
-- Returns false while the lease is held, else our token and "1" if the last owner released it (or there was none).
-- The generation makes a token unique even if two workers ever drew the same random part.
if redis.call('GET', KEYS[1]) then -- and not EXISTS: a key of another type is an error, not a held lease
  return false
end
local generation = redis.call('HINCRBY', KEYS[2], 'generation', 1)
local clean = redis.call('HGET', KEYS[2], 'clean') or '1'
redis.call('HSET', KEYS[2], 'clean', '0')
local token = ARGV[1] .. ' ' .. generation .. ' ' .. ARGV[2]
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
return {token, clean}
