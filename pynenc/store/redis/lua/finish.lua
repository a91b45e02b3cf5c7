-- ARGV: now, request or nothing, runner; then for each outcome id, outcome, payload. Answers with the lost ids and the claim.
local request, runner = ARGV[2] ~= '' and request_of(ARGV[2]) or nil, ARGV[3]
if request and call('HEXISTS', P .. 'runners', request.runner) == 0 then
  return {'lost'}
end

-- An outcome, see codec.py: status, alone, bits (unknown task: 1, more than the usual: 2), attempt, retries, crashes, due, started, ended; then the reason.
local OUTCOME = '>BBBI4I4I4I8I8I8'

-- Whether this very final is there already: the reply to it was lost, and it is sent again.
local function was_recorded(r, o, payload)
  return r.place == FINAL and r.runner == runner and r.attempt == o.attempt and r.status == o.status and r.payload == payload and r.reason == o.reason
end

-- The usual end: a final of a plain call. What is not usual is left for later: by the index of its outcome, and what wakes with a usual end by the index of that.
local lost, later, over, places, woken = {}, {}, {}, {}, {}
-- Whether somebody waits, or reacts.
local has_knots, has_reactions = false, false
local found = #ARGV > 3 and call('EXISTS', P .. 'knots', P .. 'reactions') or 0
if found > 0 then
  has_knots = found == 2 or call('EXISTS', P .. 'knots') == 1
  has_reactions = found == 2 or not has_knots
end

-- What a claimed state becomes when it ends with ``status``, around the times of start and end. Those of one claim are equal, so this is done once for all.
local frames = {}
local function frame_of(text, status)
  local frame = frames[status] and frames[status][text]
  if not frame then
    local m = cmsgpack.unpack(text)
    frame = {is_claimed = m[1] == CLAIMED and m[22] == runner and m[6] == 0, was = m[2], attempt = m[7], started = m[12]}
    frame.before = '\220\0' .. string.char(#m) .. cmsgpack.pack(FINAL, status, m[3], 0, 0, 0, m[7], 0, 0, m[10], m[11])
    frame.after = cmsgpack.pack(m[14], m[15], m[16], m[17], m[18], m[19], 0, 0, m[22], '', m[24], -1)
    frame.round = m[10]
    frames[status] = frames[status] or {}
    frames[status][text] = frame
  end
  return frame
end

-- Whether there may be a reaction to one of the usual ends.
local function is_reacted()
  local fields, seen, found = {}, {}, false
  for _, change in ipairs(changes) do
    local field = string.char(change[2]) .. change[1]
    if not seen[field] then
      seen[field], fields[#fields + 1], fields[#fields + 2] = true, field, string.char(change[2])
    end
  end
  for _, text in ipairs(fetch(P .. 'reactions', fields)) do
    found = found or text ~= false
  end
  return found
end

local function end_usual()
  local ids, values, gone, kinds, watched, seen = {}, {}, {}, {}, is_watched(), {}
  for i = 4, #ARGV, 3 do
    ids[#ids + 1] = ARGV[i]
  end
  local states = fetch(P .. 'row', ids)
  for i = 1, #ids do
    local id, state, packed, frame = ids[i], states[i], ARGV[3 * i + 2], nil
    local status, alone, _, attempt, retries, crashes, _, started, at_end, rest = unpacked(OUTCOME, packed)
    local ttl, task, queue, at
    if state and not seen[id] and retries + crashes + alone == 0 and rest > #packed and (status == SUCCESS or status == FAILED or status == CANCELLED) then
      local flags, size
      _, _, flags, ttl, task, queue, at = unpacked(HEAD, state)
      size = unpacked('>I4', state, at)
      frame = bit.band(flags, KEYED + CACHED) == 0 and frame_of(sub(state, at + 4, at + 3 + size), status) or nil
    end
    if frame and frame.is_claimed and frame.attempt == attempt then
      at_end = at_end > 0 and math.min(at_end, now) or now
      local text = frame.before .. cmsgpack.pack(started > 0 and started or frame.started, at_end) .. frame.after
      local written = sub(state, 1, at - 1) .. pack('>I4', #text) .. text .. ARGV[3 * i + 3]
      values[#values + 1], values[#values + 2] = id, written
      over[#over + 1] = id
      places[#over] = 3 * i + 1
      if has_reactions then
        changes[#changes + 1] = {task, status, id, frame.round, attempt, 3 * i + 1}
      end
      seen[id] = true
      if watched then
        ended[#ended + 1] = {id, written}
      end
      if ttl > 0 then
        gone[#gone + 1], gone[#gone + 2] = at_end + ttl, id
      end
      local tasks = kinds[queue] or {}
      kinds[queue] = tasks
      local numbers = tasks[task] or {}
      tasks[task] = numbers
      numbers[frame.was] = (numbers[frame.was] or 0) - 1
      numbers[status] = (numbers[status] or 0) + 1
    else
      later[#later + 1] = 3 * i + 1
    end
  end
  if #over == 0 then
    return
  end
  each('HSET', P .. 'row', values, 2)
  each('SREM', P .. 'own:' .. runner, over)
  each('ZADD', P .. 'gone', gone, 2)
  for queue, tasks in pairs(kinds) do
    for task, numbers in pairs(tasks) do
      for status, n in pairs(numbers) do
        count(status, queue, task, n)
      end
    end
  end
  for n, id in ipairs(has_knots and over or {}) do
    local asleep = edges.end_of(id, true)
    if #asleep > 0 then
      later[#later + 1], woken[places[n]] = places[n], asleep
    end
  end
  if has_reactions and not is_reacted() then
    changes = {}
  end
end

if #ARGV > 3 then
  end_usual()
end
local answer, taken
if #later + #changes == 0 then
  if request then
    answer, taken = claim_usual(request)
  end
  if answer or not request then
    tell(taken or 0)
    return {lost, answer}
  end
end
--{any}
-- Whether another runner that lives knows a task.
local function is_known(task)
  local found = call('HGETALL', P .. 'tasks')
  for i = 1, #found, 2 do
    local record = found[i] ~= runner and call('HGET', P .. 'runners', found[i])
    if record and not is_over(cmsgpack.unpack(record)) then
      for _, name in ipairs(cmsgpack.unpack(found[i + 1])) do
        if name == task then
          return true
        end
      end
    end
  end
  return false
end

local function end_any(id, o, payload)
  local r = row.load(id)
  if not r then
    return false
  end
  if r.cancel == 1 and o.status == CANCELLED and o.reason == '' then
    o.reason = r.reason
  end
  if r.place ~= CLAIMED or r.attempt ~= o.attempt or r.runner ~= runner then
    return was_recorded(r, o, payload)
  end
  r.retries, r.crashes, r.alone = o.retries, o.crashes, o.alone
  if o.started > 0 then
    r.started = o.started
  end
  if o.status == SUCCESS or o.status == FAILED or o.status == CANCELLED then
    life.finish(r, o.status, o.reason, payload, o.ended)
  elseif r.cancel == 1 then
    life.finish(r, CANCELLED, r.reason, '', o.ended)
  else
    local rate = o.status == REGISTERED and r.started == 0 and r.alone == 0 and has(r, KEYED) and row.meta(r).rate_key
    if rate then
      life.forget_claim(r, rate)
    end
    life.give_back(r, o, payload, o.is_unknown and not is_known(r.task))
    if rate then
      life.go_first(r, rate)
    end
  end
  return true
end

-- The outcome of an argument. What it has more than the usual: reason, ids that it awaits, signals, blobs, whether it continues as new; then the arguments.
local function outcome_of(text)
  local o, bits, at = {}, nil, nil
  o.status, o.alone, bits, o.attempt, o.retries, o.crashes, o.due, o.started, o.ended, at = unpacked(OUTCOME, text)
  o.is_unknown = bits % 2 == 1
  if bits < 2 then
    o.reason = sub(text, at)
    return o
  end
  local size
  size, at = unpacked('>I4', text, at)
  local more = cmsgpack.unpack(sub(text, at, at + size - 1))
  o.reason, o.awaits, o.signals, o.blobs = more[1], more[2], more[3], more[4]
  o.args = more[5] and sub(text, at + size) or nil
  return o
end

table.sort(later)
for _, i in ipairs(later) do
  local known = #changes
  if woken[i] then
    life.rouse_all(woken[i])
  elseif not end_any(ARGV[i], outcome_of(ARGV[i + 1]), ARGV[i + 2]) then
    lost[#lost + 1] = ARGV[i]
  end
  for n = known + 1, #changes do
    changes[n][6] = i
  end
end
table.sort(changes, function(a, b) return a[6] < b[6] end)
react()
if request then
  answer, taken = claim(request)
  react()
end
tell(taken or 0)
return {lost, answer}
