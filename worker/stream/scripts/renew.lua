-- KEYS lease… | ARGV ttl in ms, our token of each lease…
-- Prolongs the leases that are ours; returns 1 for each of them, 0 for each that we have lost. One call instead of one
-- for each lease, because an owner of many renews all the time.
-- A broken key, which is not a lease, costs only its own partition.
local kept = {}
for i, lease in ipairs(KEYS) do
  local ours = redis.pcall('GET', lease) == ARGV[i + 1]
  kept[i] = ours and redis.call('PEXPIRE', lease, ARGV[1]) or 0
end
return kept
