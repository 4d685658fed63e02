-- KEYS stream | the id of its last entry without the entry, "" if it is empty.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return last[1] and last[1][1] or ''
