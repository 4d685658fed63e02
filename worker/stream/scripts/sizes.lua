-- KEYS stream…
-- Of each stream the number of its entries and the bytes of memory that it takes, estimated. One call instead of hundreds
-- of commands: a worker asks all the time.
local sizes = {}
for _, stream in ipairs(KEYS) do
  sizes[#sizes + 1] = redis.call('XLEN', stream)
  sizes[#sizes + 1] = redis.call('MEMORY', 'USAGE', stream) or 0
end
return sizes
