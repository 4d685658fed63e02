-- KEYS config | ARGV partitions, contract version
-- Records both, and the list of numbers that pushers may use, unless they are recorded already; returns what is
-- recorded. Only a change of the number makes the list longer, see layouts.lua. The list is what counts.
local listed = redis.call('HGET', KEYS[1], 'layouts')
redis.call('HSETNX', KEYS[1], 'partitions', listed and string.match(listed, '^%d+') or ARGV[1])
redis.call('HSETNX', KEYS[1], 'contract', ARGV[2])
redis.call('HSETNX', KEYS[1], 'layouts', redis.call('HGET', KEYS[1], 'partitions'))
return redis.call('HMGET', KEYS[1], 'partitions', 'contract', 'layouts')
