-- KEYS stream, ready, done, seen, deleted | ARGV group, seal id, seal, user tombstone, conversation tombstone, identities,
-- seen limit in bytes, seen ttl in ms, done length, event field count, event fields…, id…
-- The last step of a batch: its entries leave Redis, its seal goes, one event tells the backend, and the identities of its
-- chunks stay for late twins. Fenced by the seal, not by the lease: the seal fixes what is stored, so whoever stored it may
-- finish it, once. Returns "done", "gone" (finished by somebody else) or "deleted" (the audio must not come back: the
-- entries are dropped, and the caller removes the object, also one that it stored long after somebody else had finished).
local outcome = 'done'
local first_ms = tonumber(string.match(ARGV[2], '^%d+'))
for _, tombstone in ipairs({ARGV[4], ARGV[5]}) do
  local deleted_at = redis.call('HGET', KEYS[5], tombstone)
  if deleted_at and first_ms <= tonumber(deleted_at) then
    outcome = 'deleted'
  end
end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return outcome == 'deleted' and outcome or 'gone'
end
local first_field = 11
local first_id = first_field + ARGV[10]
-- Removing comes last: should a command fail, nothing is lost and the step is repeated; at worst its event comes twice.
if outcome == 'done' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[9], '*', unpack(ARGV, first_field, first_id - 1))
  local seen = (remembered(KEYS[4], KEYS[5], {ARGV[4], ARGV[5]}, ARGV[8]) .. ARGV[6]):sub(-ARGV[7])
  redis.call('SET', KEYS[4], seen, 'PX', ARGV[8])
end
sliced(first_id, #ARGV, function(...)
  redis.call('XACK', KEYS[1], ARGV[1], ...)
  redis.call('XDEL', KEYS[1], ...)
end)
redis.call('HDEL', KEYS[2], ARGV[2])
return outcome
