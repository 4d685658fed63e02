-- KEYS lease | ARGV token, ttl in ms
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
