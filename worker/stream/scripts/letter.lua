-- Takes a dead letter of dead_letter.lua apart: returns the original fields, the reason and the entry, or nothing if it
-- is something else.
local function opened(fields)
  local size = #fields - 6
  if fields[size + 1] ~= 'reason' or fields[size + 3] ~= 'entry' or fields[size + 5] ~= 'at' then
    return nil
  end
  local original = {}
  if size == 2 and fields[1] == 'packed' then
    original = cmsgpack.unpack(fields[2])
  else
    for i = 1, size do
      original[i] = fields[i]
    end
  end
  return original, fields[size + 2], fields[size + 4]
end

-- The value of a field, cut to what an id can have; false if there is none.
local function value_of(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return string.sub(fields[i + 1], 1, 256)
    end
  end
  return false
end
