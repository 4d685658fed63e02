-- KEYS stream, ready, done, seen, deleted, withdrawn | ARGV group, seal id, seal, user tombstone, conversation
-- tombstone, identities, last entry, expected server, seen limit in bytes, seen ttl in ms, done length, event field
-- count, event fields…, id…
-- The last step of a batch: its entries leave Redis, its seal goes, one event tells the backend, and the identities of
-- its chunks stay to recognise late duplicates. Fenced by the seal, not by the lease: the seal fixes what is stored, so
-- any worker that stored it may finish it, once. Returns
--   done       the entries and the seal are removed, and the event is added
--   gone       another worker finished the batch, or Redis forgot its seal
--   withdrawn  the maker of the object removes it, so it must not count
--   changed    followed by the server's id: it is not the expected one, so it may have forgotten a deletion; the caller
--              looks for deletions, and calls again
--   deleted    the audio must not come back: the entries are dropped, and the caller removes the object, even if it
--              stored the object long after another worker had finished the batch
local outcome = 'done'
for _, tombstone in ipairs({ARGV[4], ARGV[5]}) do
  if is_up_to(ARGV[2], redis.call('HGET', KEYS[5], tombstone)) then
    outcome = 'deleted'
  end
end
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
  return outcome == 'deleted' and outcome or 'gone'
end
if outcome == 'done' and redis.call('EXISTS', KEYS[6]) == 1 then
  return 'withdrawn'
end
if outcome == 'done' and ARGV[8] ~= server_id() then
  return 'changed ' .. server_id()
end
local first_field = 13
local first_id = first_field + ARGV[12]
-- Removing comes last: if a command fails, nothing is lost and the step is repeated; at worst its event comes twice. A
-- key of another type fails before the event is added, because the step would be repeated until that key is mended.
if outcome == 'done' then
  redis.call('XLEN', KEYS[1])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[11], '*', unpack(ARGV, first_field, first_id - 1))
  local known, last, foreign = remembered(KEYS[4], KEYS[5], {ARGV[4], ARGV[5]})
  if not foreign then
    local identities = (known .. ARGV[6]):sub(-ARGV[9])
    redis.call('SET', KEYS[4], (is_after(last, ARGV[7]) and last or ARGV[7]) .. '\n' .. identities, 'PX', ARGV[10])
  end
end
sliced(first_id, #ARGV, function(...)
  redis.call('XACK', KEYS[1], ARGV[1], ...)
  redis.call('XDEL', KEYS[1], ...)
end)
redis.call('HDEL', KEYS[2], ARGV[2])
return outcome
