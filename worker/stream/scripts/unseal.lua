-- KEYS lease, ready | ARGV token, seal id
-- Takes back a seal whose batch goes to the dead letters; its entries are plain pending ones again.
return redis.call('HDEL', KEYS[2], ARGV[2])
