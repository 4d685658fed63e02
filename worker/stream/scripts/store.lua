-- KEYS config | ARGV field of a STORE_URL, id of the store or nothing
-- Records the id, if there is one, unless another is recorded already; returns the recorded id.
if ARGV[2] ~= '' then
  redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HGET', KEYS[1], ARGV[1]) or ''
