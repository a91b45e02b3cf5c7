-- The usual claim: READY rows of plain calls, of one queue after the other. Anything else is left to ``claim_any``.

-- A queue as a claim sees it: its line, how many are READY, when the first of those that wait for a time is due, whether there are suspects.
local function look(queue)
  local name = P .. 'q:' .. queue
  local seen = {name = name, queue = queue, ready = false, ranked = false, due = 0, suspects = false, passed = false}
  local rest = {P .. 'later:' .. queue, P .. 'asleep:' .. queue, P .. 's:' .. queue .. ':p', P .. 's:' .. queue .. ':r', P .. 'T:' .. queue}
  local all = call('EXISTS', name .. ':p', name .. ':r', unpack(rest))
  if all == 0 then
    return seen
  end
  local plain = call('EXISTS', name .. ':p')
  seen.ready = plain == 1
  if all > plain and call('EXISTS', name .. ':r') == 1 then
    seen.ready, seen.ranked, plain = true, true, plain + 1
  end
  if all > plain then
    seen.suspects = call('EXISTS', rest[3], rest[4]) > 0
    seen.passed = call('EXISTS', rest[5]) == 1
    for i = 1, 2 do
      local first = tonumber(call('ZRANGE', rest[i], 0, 0, 'WITHSCORES')[2] or 0)
      if first > 0 and (seen.due == 0 or first < seen.due) then
        seen.due = first
      end
    end
  end
  return seen
end

-- The queues that a request may take from: what was seen of each, and the most to take.
local function asked_queues(request)
  local states, asked = {}, {}
  local known = call('HGETALL', P .. 'queues')
  for i = 1, #known, 2 do
    states[known[i]] = known[i + 1]
    if #request.shares == 0 and known[i + 1] ~= 'paused' then
      asked[#asked + 1] = {look(known[i]), request.limit}
    end
  end
  for _, share in ipairs(request.shares) do
    if states[share[1]] and states[share[1]] ~= 'paused' then
      asked[#asked + 1] = {look(share[1]), share[2]}
    end
  end
  return asked
end

local function request_of(text)
  local r = cmsgpack.unpack(text)
  return {runner = r[1], limit = r[2], shares = r[3], ids = r[4], alone = r[5], aged = r[6], without = r[7], client = r[8], wanted = r[9]}
end

-- The ids of the first ``n`` rows of a line by rank and age, and how many of them have a rank or boost.
local function front(seen, n)
  local ids, ranks, behind = {}, {}, {}
  if seen.ranked then
    local found = call('ZRANGE', seen.name .. ':r', 0, n - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      local list = tonumber(found[i + 1]) <= 0 and ids or behind
      list[#list + 1] = sub(found[i], 15)
      ranks[list[#list]] = -tonumber(found[i + 1])
    end
    if #ids == n then
      return ids, ranks, n, 0
    end
  end
  local first = #ids
  local plain = call('ZRANGE', seen.name .. ':p', 0, n - first - 1)
  for i = 1, #plain do
    ids[first + i] = plain[i]
  end
  local last = math.min(#behind, n - #ids)
  for i = 1, last do
    ids[#ids + 1] = behind[i]
  end
  return ids, ranks, first + last, #plain
end

-- The state of a row that is claimed for the first time, after its head.
local function first_claim(runner, rank)
  local text = cmsgpack.pack({CLAIMED, PENDING, REGISTERED, 0, 0, 0, 1, 0, 0, 0, now, 0, 0, 0, rank, rank, 0, 0, 0, 0, 0, runner, '', 0, -1})
  return pack('>I4', #text) .. text
end

-- What taking rows would write: nil when one of them needs a closer look.
local function plan(ids, ranks, runner, answer)
  local definitions, states, values, texts, tasks = fetch(P .. 'call', ids), fetch(P .. 'row', ids), {}, {}, {}
  for i = 1, #ids do
    local id, definition, state = ids[i], definitions[i], states[i]
    local seq, created, flags, ttl, task, queue, at = unpacked(HEAD, definition)
    if bit.band(flags, KEYED + FIRST) ~= 0 then
      return nil
    end
    local text, was = '', REGISTERED
    if state then
      local values = cmsgpack.unpack(sub(state, at + 4))
      was = values[2]
      values[1], values[2], values[7], values[11], values[12], values[22], values[23] = CLAIMED, PENDING, values[7] + 1, now, 0, runner, ''
      local packed = cmsgpack.pack(values)
      state = sub(definition, 1, at - 1) .. pack('>I4', #packed) .. packed
      text = state
    else
      local rank = ranks[id] or 0
      texts[rank] = texts[rank] or first_claim(runner, rank)
      state = sub(definition, 1, at - 1) .. texts[rank]
    end
    values[2 * i - 1], values[2 * i] = id, state
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = id, definition, text
    local numbers = tasks[task] or {}
    tasks[task] = numbers
    numbers[was] = (numbers[was] or 0) + 1
  end
  return values, tasks
end

-- Takes the first ``n`` READY rows of a queue; how many, or nil when that needs a closer look.
local function take_usual(seen, n, runner, answer)
  local ids, ranks, ranked, plain = front(seen, n)
  if #ids == 0 then
    return 0
  end
  local values, tasks = plan(ids, ranks, runner, answer)
  if not values then
    return nil
  end
  each('HSET', P .. 'row', values, 2)
  each('SADD', P .. 'own:' .. runner, ids)
  if plain > 0 then
    call('ZREMRANGEBYRANK', seen.name .. ':p', 0, plain - 1)
  end
  if ranked > 0 then
    call('ZREMRANGEBYRANK', seen.name .. ':r', 0, ranked - 1)
    local aged = {}
    for i = 1, #ids do
      if ranks[ids[i]] then
        aged[#aged + 1] = ids[i]
      end
    end
    each('ZREM', seen.name .. ':a', aged)
  end
  for task, statuses in pairs(tasks) do
    for was, n in pairs(statuses) do
      count(was, seen.queue, task, -n)
      count(PENDING, seen.queue, task, n)
    end
  end
  return #ids
end

-- A runner that finds less than it asked for is idle from now on, if it says so.
local function note_idle(request, taken)
  if request.client ~= '' and taken < request.limit then
    call('HSET', P .. 'idle', request.client, #request.wanted > 0 and cmsgpack.pack(request.wanted) or '')
  end
end

-- An answer: when something is due, whether there are suspects, then id, call and state of what was claimed; nil when nothing was done.
local function claim_usual(request)
  if #request.ids > 0 or request.alone or request.aged or #request.without > 0 or request.limit < 1 then
    return nil
  end
  if call('HEXISTS', P .. 'runners', request.runner) == 0 then
    return {'lost'}
  end
  local asked, due, suspects, ready, parts = asked_queues(request), 0, 0, 0, {}
  for _, part in ipairs(asked) do
    local seen = part[1]
    if seen.passed or (seen.due > 0 and seen.due <= now) then
      return nil
    end
    if seen.due > 0 and (due == 0 or seen.due < due) then
      due = seen.due
    end
    suspects = seen.suspects and 1 or suspects
    if seen.ready then
      parts[#parts + 1] = part
    end
  end
  if #parts > 1 then
    return nil
  end
  local answer, taken = {string.format('%.0f', now), string.format('%.0f', due), suspects}, 0
  if #parts == 1 then
    taken = take_usual(parts[1][1], math.min(parts[1][2], request.limit), request.runner, answer)
    if not taken then
      return nil
    end
  end
  note_idle(request, taken)
  return answer, taken
end
