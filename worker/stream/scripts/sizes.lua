-- KEYS stream…
-- Of each stream the number of its entries and the bytes of memory that they take, estimated. One call instead of
-- hundreds of commands, because a worker asks all the time. A broken key, which is not a stream, counts as empty.
local sizes = {}
for _, stream in ipairs(KEYS) do
  local length = redis.pcall('XLEN', stream)
  local entries = type(length) == 'number' and length or 0
  sizes[#sizes + 1] = entries
  sizes[#sizes + 1] = entries > 0 and redis.call('MEMORY', 'USAGE', stream) or 0
end
return sizes
