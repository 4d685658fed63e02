-- Prepended to scripts that count lost entries. `lost` maps each lost entry to the token of the worker that counts it, so
-- that several workers which had it in hand count it once, and a worker that asks again gets the same answer.
-- Whether the worker with this token counts the entry. Of more than `most` entries it is not remembered who does.
local function is_counted_by(lost, id, token, most)
  local counter = redis.call('HGET', lost, id)
  if not counter and redis.call('HLEN', lost) < tonumber(most) then
    redis.call('HSET', lost, id, token)
  end
  return (counter or token) == token
end
