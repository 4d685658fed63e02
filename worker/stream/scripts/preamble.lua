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

-- In the place of the id of a server that does not tell it: this user may not run INFO, or no user may.
local HIDDEN = 'hidden'

-- The server process that answers, and its data's history: another one may have lost its predecessor's latest writes.
local function server_id()
  local told = ''
  for _, section in ipairs({'server', 'replication'}) do
    local info = redis.pcall('INFO', section)
    told = told .. (type(info) == 'string' and info or '')
  end
  local process, history = string.match(told, 'run_id:(%x+)'), string.match(told, 'master_replid:(%x+)')
  return process and history and process .. ':' .. history or HIDDEN
end

-- Whether an owner has taken the partition over on this server. If not, the owner's data may come from another server,
-- which may have known more. `epoch` is a key, see identify.lua. An owner notices by its connections that a server which
-- hides may be another one, and takes the partition over again before it goes on.
local function is_known_server(epoch)
  local server, known = server_id(), redis.call('HGET', epoch, 'server')
  return known == server or (server == HIDDEN and known and string.sub(known, 1, #HIDDEN + 1) == HIDDEN .. ':')
end

local function flat_to_table(flat)
  local result = {}
  for i = 1, #flat, 2 do
    result[flat[i]] = flat[i + 1]
  end
  return result
end
