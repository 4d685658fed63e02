-- KEYS lease, stream, epoch | ARGV token, group, id…
-- Removes entries that hold no audio to store: duplicates of chunks held or stored, end markers without a batch,
-- deleted audio. Returns 1; 0 if the owner must take the partition over first, because the chunks that the duplicates
-- repeat may be lost.
if not is_known_server(KEYS[3]) then
  return 0
end
sliced(3, #ARGV, function(...)
  redis.call('XACK', KEYS[2], ARGV[2], ...)
  redis.call('XDEL', KEYS[2], ...)
end)
return 1
