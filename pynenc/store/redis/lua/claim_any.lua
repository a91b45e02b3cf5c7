-- Any claim: several queues, times that have come, keys and rates, suspects, chosen ids, tasks to leave out.

-- Rows that one claim may look at beyond those that it takes.
local PATIENCE = 5000

-- The first rows of some queues in the order of a request.
local function candidates(request, queues, n)
  local found = {}
  for _, queue in ipairs(queues) do
    local names = {P .. (request.alone and 's:' or 'q:') .. queue}
    if not request.alone then
      for _, task in ipairs(call('SMEMBERS', P .. 'T:' .. queue)) do
        local name, is_left_out = line.passed(queue, task), false
        if line.size(name) == 0 then
          call('SREM', P .. 'T:' .. queue, task)
        end
        for _, without in ipairs(request.without) do
          is_left_out = is_left_out or without == task
        end
        if not is_left_out then
          names[#names + 1] = name
        end
      end
    end
    for _, name in ipairs(names) do
      for _, entry in ipairs(line.first(name, n, request.aged)) do
        found[#found + 1] = entry
      end
    end
  end
  table.sort(found, line.before)
  return found
end

-- The READY rows among chosen ids, in the order of a request.
local function chosen(request, queues)
  local found, asked, seen = {}, {}, {}
  for _, queue in ipairs(queues) do
    asked[queue] = true
  end
  for _, id in ipairs(request.ids) do
    local r = not seen[id] and row.load(id)
    seen[id] = true
    if r and r.place == READY and asked[r.queue] and (r.alone == 1) == request.alone then
      found[#found + 1] = request.aged and {0, 0, r.seq, id} or {-r.rank, -r.boost, r.seq, id}
    end
  end
  table.sort(found, line.before)
  return found
end

local function pass_over(r)
  line.leave(r)
  r.passed = 1
  line.join(r)
  row.save(r)
end

-- Takes at most ``most`` rows of some queues; how many, and whether it gave up looking.
local function take_any(request, queues, most, answer)
  local taken, looked, without = 0, 0, {}
  for _, task in ipairs(request.without) do
    without[task] = true
  end
  while taken < most do
    local n = most - taken
    local found = #request.ids > 0 and chosen(request, queues) or candidates(request, queues, n)
    if #found == 0 then
      return taken, false
    end
    for i, entry in ipairs(found) do
      -- Behind the first n of a line there may be others that come before what other lines have.
      local is_sure = i <= n or #request.ids > 0
      local r = is_sure and taken < most and row.load(entry[4])
      -- Taking one may have moved others.
      if r and r.place == READY then
        looked = looked + 1
        if without[r.task] then
          if #request.ids == 0 then
            pass_over(r)
          end
        else
          line.leave(r)
          if life.take(r, request.runner) then
            taken = taken + 1
            answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = r.id, r.call or call('HGET', P .. 'call', r.id), row.encoded(r)
          end
        end
      end
    end
    if #request.ids > 0 then
      return taken, false
    elseif looked - taken > PATIENCE then
      return taken, true
    end
  end
  return taken, false
end

local function claim_any(request)
  if call('HEXISTS', P .. 'runners', request.runner) == 0 then
    return {'lost'}
  end
  local asked = asked_queues(request)
  for _, part in ipairs(asked) do
    if part[1].due > 0 and part[1].due <= now then
      life.admit_due(part[1].queue)
    end
  end
  local answer, room, taken, is_tired = {string.format('%.0f', now), '0', 0}, request.limit, 0, false
  if request.alone then
    room = math.min(room, 1)
  end
  local function take(queues, most)
    local n, gave_up = take_any(request, queues, most, answer)
    taken, room, is_tired = taken + n, room - n, is_tired or gave_up
  end
  if #request.shares > 0 then
    for _, part in ipairs(asked) do
      take({part[1].queue}, math.min(part[2], room))
    end
  else
    local queues = {}
    for i, part in ipairs(asked) do
      queues[i] = part[1].queue
    end
    take(queues, room)
  end
  local due = is_tired and now or 0
  for _, part in ipairs(asked) do
    local seen = look(part[1].queue)
    if seen.due > 0 and (due == 0 or seen.due < due) then
      due = seen.due
    end
    answer[3] = seen.suspects and 1 or answer[3]
  end
  answer[2] = string.format('%.0f', due)
  note_idle(request, taken)
  return answer, taken
end

local function claim(request)
  local answer, taken = claim_usual(request)
  if answer then
    return answer, taken
  end
  return claim_any(request)
end
