-- Prepended to every script that only the owner of a partition may run: KEYS[1] is its lease, ARGV[1] our token.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST another worker owns this partition')
end
