-- KEYS config | ARGV partitions, contract version
-- Records both unless they are recorded already; returns what is recorded.
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
redis.call('HSETNX', KEYS[1], 'contract', ARGV[2])
return redis.call('HMGET', KEYS[1], 'partitions', 'contract')
