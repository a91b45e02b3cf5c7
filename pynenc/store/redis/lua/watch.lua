-- ARGV: now, request or nothing, client, its tie, waiter or nothing, its attempt; then the ids. Answers with whether one of the ids is
-- final or gone, the claim, and the state of the only id if that is final; or with the circle that would close.
local client, tie, waiter, attempt = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local request = ARGV[2] ~= '' and request_of(ARGV[2]) or nil
if request and call('HEXISTS', P .. 'runners', request.runner) == 0 then
  return {'lost'}
end
local ids = {}
for i = 7, #ARGV do
  ids[#ids + 1] = ARGV[i]
end

-- Ties this process to what is not final yet.
local function watch(names)
  local ties, values = fetch(P .. 'ties', names), {}
  for i = 1, #names do
    local old = ties[i] or ''
    if not string.find(old, client, 1, true) then
      values[#values + 1], values[#values + 2] = names[i], old .. client .. tie
    elseif tie == '+' then
      values[#values + 1], values[#values + 2] = names[i], (string.gsub(old, client .. '-', client .. '+'))
    end
  end
  each('HSET', P .. 'ties', values, 2)
end

local function is_pending(id, state)
  if not state then
    return call('HEXISTS', P .. 'call', id) == 1
  end
  local at = select(7, unpacked(HEAD, state))
  return cmsgpack.unpack(sub(state, at + 4, at + 3 + unpacked('>I4', state, at)))[1] ~= FINAL
end

local pending, states = {}, fetch(P .. 'row', ids)
for i = 1, #ids do
  if is_pending(ids[i], states[i]) then
    pending[#pending + 1] = ids[i]
  end
end
local is_over = #pending < #ids and 1 or 0
if waiter == '' then
  watch(pending)
  return {is_over, false, is_over == 1 and #ids == 1 and states[1] or false}
end
--{any}
local w = row.load(waiter)
if not w or w.place ~= CLAIMED or w.attempt ~= attempt then
  watch(pending)
  return {is_over, false}
end

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

local function awaits(id)
  return call('SMEMBERS', P .. 'awaits:' .. id)
end

-- The circle that would close if the waiter waited for an id; see pynenc/core/waiting.py, which says why this is right.
local function circle(awaited)
  local waits, keys, reached, at = {}, {}, {waiter}, 1
  while reached[at] do
    local node = reached[at]
    if not waits[node] then
      waits[node], keys[node] = awaits(node), holders(node)
      if node == waiter then
        table.insert(waits[node], awaited)
      end
      for _, edges in ipairs({waits[node], keys[node]}) do
        for _, name in ipairs(edges) do
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
    for _, edges in ipairs({waits[queue[i]], keys[queue[i]]}) do
      for _, name in ipairs(edges) do
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
  local answer = {'circle', waiter}
  for j = #path, 2, -1 do
    answer[#answer + 1] = path[j]
  end
  return answer
end

local has_knots = call('EXISTS', P .. 'knots') == 1
for _, id in ipairs(pending) do
  if id == waiter or (has_knots and call('EXISTS', P .. 'awaits:' .. id) == 1) or #holders(id) > 0 then
    local found = circle(id)
    if found then
      return found
    end
  end
end
for _, id in ipairs(pending) do
  call('SADD', P .. 'waiters:' .. id, waiter)
end
each('SADD', P .. 'awaits:' .. waiter, pending)
if #pending > 0 then
  call('SADD', P .. 'knots', waiter)
  each('SADD', P .. 'knots', pending)
end
watch(pending)
life.lift(pending, w.rank, now)
local answer, taken
if request and is_over == 0 then
  answer, taken = claim(request)
end
tell(taken or 0)
return {is_over, answer or false}
