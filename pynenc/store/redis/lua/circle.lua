-- Waits that could never end.

-- Who holds the running key that an invocation is parked behind, or would be if it were due now.
local function holders(id)
  local r = row.load(id)
  local key = r and r.place ~= FINAL and r.held == 0 and key_of(r)
  if not key then
    return {}
  end
  local found = call('SMEMBERS', P .. 'hold:' .. key)
  return (r.why == BEHIND_KEY or #found >= row.meta(r).running_limit) and found or {}
end

-- The circle that would close if a waiter waited for an id, or nil; see pynenc/core/waiting.py, which says why this is right. What waits for nothing itself
-- can always end; that is nearly everything.
local function circle(waiter, awaited, has_knots)
  local is_waiting = awaited == waiter or (has_knots and call('EXISTS', P .. 'awaits:' .. awaited) == 1)
  if not is_waiting and #holders(awaited) == 0 then
    return nil
  end
  local waits, keys, reached, at = {}, {}, {waiter}, 1
  while reached[at] do
    local node = reached[at]
    if not waits[node] then
      waits[node], keys[node] = call('SMEMBERS', P .. 'awaits:' .. node), holders(node)
      if node == waiter then
        table.insert(waits[node], awaited)
      end
      for _, names in ipairs({waits[node], keys[node]}) do
        for _, name in ipairs(names) do
          reached[#reached + 1] = name
        end
      end
    end
    at = at + 1
  end
  local can_end, changed = {}, true
  while changed do
    changed = false
    for node in pairs(waits) do
      if not can_end[node] then
        local may = true
        for _, name in ipairs(waits[node]) do
          may = may and can_end[name]
        end
        local has_room = #keys[node] == 0
        for _, name in ipairs(keys[node]) do
          has_room = has_room or can_end[name]
        end
        if may and has_room then
          can_end[node], changed = true, true
        end
      end
    end
  end
  if can_end[waiter] then
    return nil
  end
  local came, queue, i = {}, {awaited}, 1
  while queue[i] and queue[i] ~= waiter do
    for _, names in ipairs({waits[queue[i]], keys[queue[i]]}) do
      for _, name in ipairs(names) do
        if not can_end[name] and not came[name] and name ~= awaited then
          came[name] = queue[i]
          queue[#queue + 1] = name
        end
      end
    end
    i = i + 1
  end
  local path = {waiter}
  while path[#path] ~= awaited and came[path[#path]] do
    path[#path + 1] = came[path[#path]]
  end
  local answer = {waiter}
  for j = #path, 2, -1 do
    answer[#answer + 1] = path[j]
  end
  return answer
end
