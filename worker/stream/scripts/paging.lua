-- Prepended to scripts that work page by page: where the page after one of at most `size` begins, "" at the end.
local function following(page, size)
  if #page < tonumber(size) then
    return ''
  end
  return '(' .. page[#page][1]
end
