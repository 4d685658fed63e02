-- KEYS lease, epoch | ARGV token
redis.call('HSET', KEYS[2], 'clean', '1')
return redis.call('DEL', KEYS[1])
