-- KEYS lease, stream | ARGV token, group, consumer
-- Drops consumers of former owners. Only those with nothing pending: XGROUP DELCONSUMER would lose their entries.
local dropped = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], ARGV[2])) do
  local consumer = flat_to_table(flat)
  local is_stream_id = string.find(consumer['name'], 'stream:', 1, true) == 1
  if consumer['name'] ~= ARGV[3] and not is_stream_id and consumer['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], consumer['name'])
    dropped = dropped + 1
  end
end
return dropped
