-- KEYS stream…
-- Of each stream the number of its entries and the bytes of memory that it takes, estimated. One call instead of
-- hundreds of commands, because a worker asks all the time. A broken key, which is not a stream, counts as empty.
local sizes = {}
for _, stream in ipairs(KEYS) do
  local entries = redis.pcall('XLEN', stream)
  sizes[#sizes + 1] = type(entries) == 'number' and entries or 0
  sizes[#sizes + 1] = redis.call('MEMORY', 'USAGE', stream) or 0
end
return sizes
