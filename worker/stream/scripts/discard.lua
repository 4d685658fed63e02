-- KEYS lease, stream | ARGV token, group, id…
-- Removes entries that hold no audio to store: twins of chunks held or stored, end markers without a batch, deleted audio.
sliced(3, #ARGV, function(...)
  redis.call('XACK', KEYS[2], ARGV[2], ...)
  redis.call('XDEL', KEYS[2], ...)
end)
return #ARGV - 2
