-- KEYS stream, lease, epoch, ready, dead, done, trials, deleted, lost | ARGV group
-- One partition at one moment: lease, ms left of it, generation, entries, bytes of memory, oldest entry, pending
-- entries, seals, dead letters, blobs ever stored, id of the last event, entries that were lost lately. A key of a wrong type is an error.
redis.call('HLEN', KEYS[7])
redis.call('HLEN', KEYS[8])
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local stored, last_event = 0, false
if redis.call('EXISTS', KEYS[6]) == 1 then
  local facts = redis.call('XINFO', 'STREAM', KEYS[6])
  for i = 1, #facts, 2 do
    if facts[i] == 'entries-added' then
      stored = facts[i + 1]
    elseif facts[i] == 'last-generated-id' then
      last_event = facts[i + 1]
    end
  end
end
local unread = redis.call('HGET', KEYS[9], 'unread')
local lost = redis.call('HLEN', KEYS[9])
if unread then
  lost = lost - 1 + unread
end
return {
  redis.call('GET', KEYS[2]),
  redis.call('PTTL', KEYS[2]),
  redis.call('HGET', KEYS[3], 'generation'),
  redis.call('XLEN', KEYS[1]),
  redis.call('MEMORY', 'USAGE', KEYS[1]),
  oldest and oldest[1] or false,
  pending.err and 0 or pending[1],
  redis.call('HVALS', KEYS[4]),
  redis.call('XLEN', KEYS[5]),
  stored,
  last_event,
  lost,
}
