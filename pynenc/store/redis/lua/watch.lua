-- ARGV: now, request or nothing, client, its tie, waiter or nothing, its attempt; then the ids. Answers with whether one of the ids is
-- final or gone, the claim, the state of the only id if that is final, and its round if it is not; or with the circle that would close.
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
    return call('HEXISTS', P .. 'call', id) == 1, 0
  end
  local at = select(7, unpacked(HEAD, state))
  local values = cmsgpack.unpack(sub(state, at + 4, at + 3 + unpacked('>I4', state, at)))
  return values[1] ~= FINAL, values[10] or 0
end

local pending, states, round = {}, fetch(P .. 'row', ids), 0
for i = 1, #ids do
  local is_one
  is_one, round = is_pending(ids[i], states[i])
  if is_one then
    pending[#pending + 1] = ids[i]
  end
end
local is_over = #pending < #ids and 1 or 0
if waiter == '' then
  watch(pending)
  return {is_over, false, is_over == 1 and #ids == 1 and states[1] or false, round}
end
--{any}
local w = row.load(waiter)
if not w or w.place ~= CLAIMED or w.attempt ~= attempt then
  watch(pending)
  return {is_over, false, false, round}
end

local has_knots = call('EXISTS', P .. 'knots') == 1
for _, id in ipairs(pending) do
  local found = circle(waiter, id, has_knots)
  if found then
    table.insert(found, 1, 'circle')
    return found
  end
end
edges.add(waiter, pending)
watch(pending)
life.lift(pending, w.rank, now)
local answer, taken
if request and is_over == 0 then
  answer, taken = claim(request)
end
react()
tell(taken or 0)
return {is_over, answer or false, false, round}
