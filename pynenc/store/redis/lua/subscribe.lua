-- ARGV: now, owner; then for each reaction status, its name, task, call without its beginning, tail. See ``react``.
local owner, lists, mine = ARGV[2], {}, {}

local function list_of(field)
  if not lists[field] then
    local text = call('HGET', P .. 'reactions', field)
    lists[field] = {}
    for _, entry in ipairs(text and table_of(text) or {}) do
      if type(entry) == 'table' and entry[1] ~= owner then
        table.insert(lists[field], entry)
      end
    end
  end
  return lists[field]
end

local before = call('HGET', P .. 'reactors', owner)
for _, field in ipairs(before and table_of(before) or {}) do
  list_of(field)
end
for i = 3, #ARGV, 5 do
  local field = string.char(ARGV[i]) .. ARGV[i + 2]
  table.insert(list_of(field), {owner, i, ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]})
  mine[#mine + 1] = field
end
for field, list in pairs(lists) do
  if #list > 0 then
    call('HSET', P .. 'reactions', field, cmsgpack.pack(list))
  else
    call('HDEL', P .. 'reactions', field)
  end
end
if #mine > 0 then
  call('HSET', P .. 'reactors', owner, cmsgpack.pack(mine))
else
  call('HDEL', P .. 'reactors', owner)
end
return 0
