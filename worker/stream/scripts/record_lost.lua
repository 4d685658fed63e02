-- KEYS lost | ARGV token, ttl in ms, most entries remembered, id…
-- Records entries that a worker has counted as lost.
for i = 4, #ARGV do
  is_counted_by(KEYS[1], ARGV[i], ARGV[1], ARGV[3])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
