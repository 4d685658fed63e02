-- KEYS dead, stream, deleted | ARGV letter id
-- Pushes the original entry of a dead letter again, field by field as it was, and removes the letter. Returns
--   replayed  done
--   gone      the letter does not exist (any more)
--   deleted   the conversation or its user was deleted since: the audio must not come back
--   foreign   it is not a dead letter as the workers write them
--   wide      unpack() can't pass so many fields; they follow, for the caller to push
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if #found == 0 then
  return {'gone'}
end
local fields, _, entry = opened(found[1][2])
if not fields then
  return {'foreign'}
end
local uid, conversation = value_of(fields, 'uid'), value_of(fields, 'conversation_id')
if uid and conversation then
  for _, tombstone in ipairs({uid .. '/', uid .. '/' .. conversation}) do
    if is_up_to(entry, redis.call('HGET', KEYS[3], tombstone)) then
      return {'deleted'}
    end
  end
end
if #fields > 4000 then
  return {'wide', fields}
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
return {'replayed'}
