-- KEYS lease, ready | ARGV token, seal id
-- Removes a seal whose batch goes to the dead letters; its entries are pending without a seal again.
return redis.call('HDEL', KEYS[2], ARGV[2])
