-- KEYS lease, stream | ARGV token, group, consumer, deaths, page start, page size
-- Takes over one page of the pending list, of all consumers. `deaths` (0 or 1) is added to each delivery count: the
-- count tells how many owners died with the entry in hand. XCLAIM itself drops pending ids whose entry is gone.
-- Returns the next page's start ("" at the end), the ids of vanished entries, and the ids that survived a death.
local created = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM')
if created.err and not string.find(created.err, 'BUSYGROUP', 1, true) then
  return created
end
local page = redis.call('XPENDING', KEYS[2], ARGV[2], ARGV[5], '+', ARGV[6])
local vanished, survivors = {}, {}
for _, pending in ipairs(page) do
  local id, deliveries = pending[1], pending[4] + ARGV[4]
  local claimed = redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
  if #claimed == 0 then
    vanished[#vanished + 1] = id
  elseif deliveries > 1 then
    survivors[#survivors + 1] = id
  end
end
return {following(page, ARGV[6]), vanished, survivors}
