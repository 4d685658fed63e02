-- Prepended to scripts that count lost entries. `lost` maps each lost entry to the token of the inquiry that counts it, so
-- that of several inquiries about it one counts it, and gets the same answer if it asks again.
-- Whether the inquiry with this token counts the entry. Of more than `most` entries it is not remembered which one does.
local function is_counted_by(lost, id, token, most)
  local counter = redis.call('HGET', lost, id)
  if not counter and redis.call('HLEN', lost) < tonumber(most) then
    redis.call('HSET', lost, id, token)
  end
  return (counter or token) == token
end
