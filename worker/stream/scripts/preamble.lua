#!lua flags=allow-oom
-- Prepended to every script. allow-oom: a full Redis refuses pushes, but it must still drain.

-- unpack() fails near 8,000 values, so long lists of ids go to Redis in slices of ARGV.
local function sliced(first, last, call)
  for from = first, last, 1000 do
    call(unpack(ARGV, from, math.min(from + 999, last)))
  end
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The server process that answers, and its data's history: another one may have lost its predecessor's latest writes.
local function server_id()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. ':' ..
    (string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '')
end

-- Whether an owner has taken the partition over on this server. If not, the owner's data may come from another server,
-- which may have known more. `epoch` is a key, see identify.lua.
local function is_known_server(epoch)
  return redis.call('HGET', epoch, 'server') == server_id()
end

local function flat_to_table(flat)
  local result = {}
  for i = 1, #flat, 2 do
    result[flat[i]] = flat[i + 1]
  end
  return result
end
