-- KEYS dead | ARGV letter id
-- Returns all field names and values of the entry in a dead letter, in their order, as they were pushed; nothing if the
-- letter does not exist (any more). What no worker wrote is returned as it is.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return false
end
return (opened(found[1][2])) or found[1][2]
