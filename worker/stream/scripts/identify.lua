-- KEYS lease, stream, epoch | ARGV token, group, random, stream id that the owner knew before, last entry it had read
-- of it, what stands for the id of a server that hides it, the server that the owner had recorded the last time
-- Returns the stream's random id, its first entry, the last entry that an owner has read, the last entry whose fate
-- Redis may have forgotten, the last one that is older than the id, the id of the server, and whether the owner has found
-- just now that Redis may have forgotten something: then it asks the store again, also about the same entries.
-- A failover or a restart may lose seals, done steps and deletions. The last entry whose fate may be forgotten is the
-- stream's last one when an owner first saw it on another server process, or with another history, than the owner
-- before; "0-0" if this never happened. The fate of entries that are there before any id is just as uncertain: Redis may
-- have been set back to a time before the first owner.
-- Another record than this owner's own is uncertain, too, even if it names this very server: the partition may have been
-- on a server that forgot its stay there, and have come back. Else it is that of an owner in between.
-- If Redis has lost the id, but not the entries that this owner has read, it is the same stream. If another owner comes
-- first, a new id is made. So the last entry that is older than the id is returned, too. All entries are older than an
-- id that an owner brings back: others may have stored them meanwhile, under an id that Redis has lost as well.
-- Also begins the count of read entries, see account.lua.
local facts = flat_to_table(redis.call('XINFO', 'STREAM', KEYS[2]))
local last = facts['last-generated-id']
local known_id = known_stream_id(KEYS[2], ARGV[2])
local first = facts['first-entry'] and facts['first-entry'][1] or last
local survived = not known_id and ARGV[4] ~= '' and facts['length'] > 0 and not is_after(first, ARGV[5])
local id = stream_id(KEYS[2], ARGV[2], survived and ARGV[4] or ARGV[3])
local server = server_id()
if server == HIDDEN then -- nothing tells that it is the server of the owner before, so it counts as another one
  server = ARGV[6]
end
local known = redis.call('HMGET', KEYS[3], 'server', 'highest')
local read_to = known_id and known[2] or '0-0'
local went_back = is_after(read_to, last)
if not known_id or not known[2] or went_back then
  redis.call('HSET', KEYS[3], 'highest', '0-0', 'accepted', facts['entries-added'] - facts['length'], 'missed', 0)
end
if not known_id then
  redis.call('HSET', KEYS[3], 'born', facts['length'] > 0 and last or '0-0')
end
if known[1] ~= server then
  redis.call('HSET', KEYS[3], 'server', server)
end
local other_record = known[1] and (known[1] ~= server or (ARGV[7] ~= '' and ARGV[7] ~= known[1]))
if other_record then
  redis.call('HSET', KEYS[3], 'recount', 1)
end
local unidentified = not known_id and facts['length'] > 0
local forgot = unidentified or went_back or other_record or (not known[1] and known_id)
if forgot then
  redis.call('HSET', KEYS[3], 'changed', last)
end
local changed = redis.call('HGET', KEYS[3], 'changed') or '0-0'
return {id, first, read_to, string.find(changed, '-', 1, true) and changed or changed .. '-0',
  redis.call('HGET', KEYS[3], 'born') or '0-0', server, forgot and '1' or '0'}
