-- ARGV: now, request or nothing, runner; then for each outcome id, outcome, payload. Answers with the lost ids and the claim.
local request, runner = ARGV[2] ~= '' and request_of(ARGV[2]) or nil, ARGV[3]
if request and call('HEXISTS', P .. 'runners', request.runner) == 0 then
  return {'lost'}
end

local function outcome_of(text)
  local o = cmsgpack.unpack(text)
  return {
    attempt = o[1], status = o[2], due = o[3], retries = o[4], crashes = o[5], started = o[6], ended = o[7], reason = o[8], alone = o[9], is_unknown = o[10] == 1,
  }
end

-- Whether this very final is there already: the reply to it was lost, and it is sent again.
local function was_recorded(r, o, payload)
  return r.place == FINAL and r.runner == runner and r.attempt == o.attempt and r.status == o.status and r.payload == payload and r.reason == o.reason
end

-- The usual end: a final of a plain call. What is not usual is left for later.
local lost, later, seen = {}, {}, {}

local function end_usual()
  local ids = {}
  for i = 4, #ARGV, 3 do
    ids[#ids + 1] = ARGV[i]
  end
  local states, values, over, gone, tasks = fetch(P .. 'row', ids), {}, {}, {}, {}
  for i = 1, #ids do
    local id, state, packed, payload = ids[i], states[i], ARGV[3 * i + 2], ARGV[3 * i + 3]
    local is_usual = false
    if state and not seen[id] then
      local seq, created, flags, ttl, task, queue, at = unpacked(HEAD, state)
      local o, m = cmsgpack.unpack(packed), cmsgpack.unpack(sub(state, at + 4, at + 3 + unpacked('>I4', state, at)))
      local status = o[2]
      is_usual = bit.band(flags, KEYED + CACHED) == 0 and m[1] == CLAIMED and m[7] == o[1] and m[22] == runner and m[6] == 0
        and (status == SUCCESS or status == FAILED or status == CANCELLED)
      if is_usual then
        local was, at_end = m[2], o[7] > 0 and math.min(o[7], now) or now
        m[1], m[2], m[8], m[9], m[12], m[13], m[5], m[23] = FINAL, status, o[4], o[5], o[6] > 0 and o[6] or m[12], at_end, o[9], o[8]
        local text = cmsgpack.pack(m)
        local written = sub(state, 1, at - 1) .. pack('>I4', #text) .. text .. payload
        values[#values + 1], values[#values + 2] = id, written
        over[#over + 1] = id
        ended[#ended + 1] = {id, written}
        if ttl > 0 then
          gone[#gone + 1], gone[#gone + 2] = at_end + ttl, id
        end
        local name = pack('>BBI2c0', was, status, #queue, queue) .. task
        tasks[name] = (tasks[name] or 0) + 1
        seen[id] = true
      end
    end
    if not is_usual then
      later[#later + 1] = 3 * i + 1
    end
  end
  if #over > 0 then
    each('HSET', P .. 'row', values, 2)
    each('SREM', P .. 'own:' .. runner, over)
    each('ZADD', P .. 'gone', gone, 2)
    for name, n in pairs(tasks) do
      local was, status, queue, at = unpacked('>BBI2c0', name)
      count(was, queue, sub(name, at), -n)
      count(status, queue, sub(name, at), n)
    end
    if call('EXISTS', P .. 'knots') == 1 then
      for _, id in ipairs(over) do
        edges.end_of(id, true)
      end
    end
  end
end

if #ARGV > 3 then
  end_usual()
end
local answer, taken
if #later == 0 then
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
    life.finish(r, CANCELLED, 'cancelled on request', '', o.ended)
  else
    life.give_back(r, o.status, o.reason, payload, o.due, o.is_unknown and not is_known(r.task))
  end
  return true
end

for _, i in ipairs(later) do
  if not end_any(ARGV[i], outcome_of(ARGV[i + 1]), ARGV[i + 2]) then
    lost[#lost + 1] = ARGV[i]
  end
end
if request then
  answer, taken = claim(request)
end
tell(taken or 0)
return {lost, answer}
