-- Reactions: what is submitted because an invocation became final, RETRY or PAUSED. ``reactions`` has them by status and task (no task: any), each as owner,
-- number, name of the status, call and tail; the arguments stand at the end of a call, so the cause and the tail are put behind it.

-- Where the reactions to a change may be.
local function fields_of(status, task)
  local field = string.char(status)
  if sub(task, 1, #FIRING) == FIRING then
    return {field .. task}
  end
  return {field .. task, field}
end

-- Byte by byte: a server compares texts by its locale.
local function is_before(a, b)
  if a[1] == b[1] then
    return a[2] < b[2]
  end
  for i = 1, math.min(#a[1], #b[1]) do
    local x, y = string.byte(a[1], i), string.byte(b[1], i)
    if x ~= y then
      return x < y
    end
  end
  return #a[1] < #b[1]
end

-- Whether what stands for a reaction is one, down to the call that it makes.
local function is_reaction(entry)
  return type(entry) == 'table' and type(entry[1]) == 'string' and type(entry[2]) == 'number' and type(entry[3]) == 'string'
    and type(entry[4]) == 'string' and type(entry[5]) == 'string' and pcall(function() return #row.meta(fresh('', entry[4])).blobs end)
end

-- The reactions to a kind of change, in their order. What cannot be read is none.
local function reactions_to(status, task)
  local list = {}
  for i, text in ipairs(fetch(P .. 'reactions', fields_of(status, task))) do
    local entries = text and table_of(text) or {}
    local is_sound = not text or table_of(text) ~= nil
    for _, entry in ipairs(entries) do
      if is_reaction(entry) then
        list[#list + 1] = entry
      else
        is_sound = false
      end
    end
    if not is_sound then
      tell_damage('reactions to ' .. (i == 1 and task or 'any task'))
    end
  end
  table.sort(list, is_before)
  return list
end

-- Submits what the changes so far ask for.
local function react()
  local known = {}
  for _, change in ipairs(changes) do
    local task, status, id, round, attempt = unpack(change)
    local kind = string.char(status) .. task
    known[kind] = known[kind] or reactions_to(status, task)
    for _, entry in ipairs(known[kind]) do
      local owner, _, name, definition, tail = unpack(entry)
      local cause = string.format('%s~%s~%d~%d', id, name, round, attempt)
      accept(fresh(owner .. '~' .. cause, definition .. cause .. tail))
    end
  end
  changes = {}
end
