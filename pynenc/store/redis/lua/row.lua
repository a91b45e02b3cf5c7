-- Rows: an invocation as a table that can change. A script never holds two tables for one invocation.
local FIELDS = {
  'place', 'status', 'back', 'why', 'alone', 'cancel', 'attempt', 'retries', 'crashes', 'round', 'claimed', 'started', 'ended', 'due',
  'priority', 'rank', 'boost', 'entries', 'passed', 'held', 'rated', 'runner', 'reason',
  'signalled', 'seen',
}
-- Where blobs and digest stand in a definition; the digest is the last. See codec.py.
local BLOBS, DIGEST = 19, 20
local row = {known = {}}

-- The definition that was submitted, without the arguments.
function row.meta(r)
  if not r.defined then
    local text = r.call or call('HGET', P .. 'call', r.id)
    local _, _, _, _, _, _, at = unpacked(HEAD, text)
    local size
    size, at = unpacked('>I4', text, at)
    local m = cmsgpack.unpack(sub(text, at, at + size - 1))
    r.defined = {
      priority = m[1], due = m[2], expires = m[3], registration_key = m[4], running_key = m[5], running_limit = m[6], drop_blocked = m[7],
      rate_key = m[8], rate_n = m[9], rate_period = m[10], cache_key = m[11], max_crashes = m[12], parent = m[14], workflow = m[15],
      workflow_parent = m[17], tags = m[18], blobs = m[19], digest = m[20],
    }
  end
  return r.defined
end

-- A row from its call and its state; who has no state is READY and was never claimed.
function row.of(id, definition, state)
  local text = state or definition
  local r, at = {id = id, call = definition or nil}, nil
  r.seq, r.created, r.flags, r.ttl, r.task, r.queue, at = unpacked(HEAD, text)
  r.head = sub(text, 1, at - 1)
  if state then
    local size
    size, at = unpacked('>I4', text, at)
    local values = cmsgpack.unpack(sub(text, at, at + size - 1))
    for i = 1, #FIELDS do
      r[FIELDS[i]] = values[i]
    end
    r.payload = sub(text, at + size)
  else
    for i = 1, #FIELDS do
      r[FIELDS[i]] = 0
    end
    r.place, r.status, r.back, r.runner, r.reason, r.payload, r.seen = READY, REGISTERED, REGISTERED, '', '', '', -1
    local m = row.meta(r)
    r.priority, r.rank, r.due = m.priority, m.priority, m.due
  end
  r.was = r.status
  row.known[id] = r
  return r
end

-- The row of an id, or nil.
function row.load(id)
  if row.known[id] then
    return row.known[id]
  end
  local state = call('HGET', P .. 'row', id)
  if state then
    return row.of(id, nil, state)
  end
  local definition = call('HGET', P .. 'call', id)
  return definition and row.of(id, definition, nil) or nil
end

-- Gives a row other arguments and blobs. The definition is packed by hand, since a table of Lua has no place for nothing.
function row.redefine(r, args, blobs)
  local text = r.call or call('HGET', P .. 'call', r.id)
  local at = select(7, unpacked(HEAD, text))
  local size
  size, at = unpacked('>I4', text, at)
  local m, parts = cmsgpack.unpack(sub(text, at, at + size - 1)), {}
  m[BLOBS] = blobs
  for i = 1, DIGEST do
    local value = m[i]
    local is_empty = type(value) == 'table' and #value == 0
    parts[i] = value == nil and '\192' or is_empty and '\144' or cmsgpack.pack(value)
  end
  local packed = '\220' .. pack('>I2', DIGEST) .. table.concat(parts)
  r.call, r.defined = sub(text, 1, at - 5) .. pack('>I4', #packed) .. packed .. args, nil
  call('HSET', P .. 'call', r.id, r.call)
end

-- The rows of some ids, in the order of submission.
function row.sorted(ids)
  local rows = {}
  for i, id in ipairs(ids) do
    rows[i] = row.load(id)
  end
  table.sort(rows, function(a, b) return a.seq < b.seq end)
  return rows
end

function row.encoded(r)
  local values = {}
  for i = 1, #FIELDS do
    values[i] = r[FIELDS[i]]
  end
  local text = cmsgpack.pack(values)
  return r.head .. pack('>I4', #text) .. text .. r.payload
end

function row.save(r)
  if r.was ~= r.status then
    count(r.was, r.queue, r.task, -1)
    count(r.status, r.queue, r.task, 1)
    r.was = r.status
  end
  call('HSET', P .. 'row', r.id, row.encoded(r))
end

local function has(r, flag)
  return bit.band(r.flags, flag) ~= 0
end

-- The running key behind which a row is parked, or nil.
local function key_of(r)
  local m = has(r, KEYED) and row.meta(r) or nil
  return m and m.running_key and not m.drop_blocked and m.running_key or nil
end

-- Lines: READY rows in their order. Those of neither rank nor boost lie in one set by age (:p), the others in two: by rank (:r) and by age (:a).
local line = {}

-- The member of a row where rank, boost and submission give the order; the rank is its score.
function line.member(r)
  return pack('>I8I6', BOOSTS - r.boost, r.seq) .. r.id
end

-- Suspects stand apart, and so does what somebody has passed over because he does not know its task.
function line.of(r)
  if r.alone == 1 then
    return P .. 's:' .. r.queue
  end
  return r.passed == 1 and line.passed(r.queue, r.task) or P .. 'q:' .. r.queue
end

function line.passed(queue, task)
  return P .. 't:' .. #queue .. ':' .. queue .. task
end

function line.join(r)
  local name = line.of(r)
  if r.rank == 0 and r.boost == 0 then
    call('ZADD', name .. ':p', r.seq, r.id)
  else
    call('ZADD', name .. ':r', -r.rank, line.member(r))
    call('ZADD', name .. ':a', r.seq, r.id)
  end
  if r.passed == 1 then
    call('SADD', P .. 'T:' .. r.queue, r.task)
  end
end

function line.leave(r)
  local name = line.of(r)
  if r.rank == 0 and r.boost == 0 then
    call('ZREM', name .. ':p', r.id)
  else
    call('ZREM', name .. ':r', line.member(r))
    call('ZREM', name .. ':a', r.id)
  end
end

function line.size(name)
  return call('ZCARD', name .. ':p') + call('ZCARD', name .. ':r')
end

-- The first rows of a line: lists of rank (negated), boost (negated), seq, id.
function line.first(name, n, aged)
  local found = {}
  local plain = call('ZRANGE', name .. ':p', 0, n - 1, 'WITHSCORES')
  for i = 1, #plain, 2 do
    found[#found + 1] = {0, 0, tonumber(plain[i + 1]), plain[i]}
  end
  local others = call('ZRANGE', name .. (aged and ':a' or ':r'), 0, n - 1, 'WITHSCORES')
  for i = 1, #others, 2 do
    if aged then
      found[#found + 1] = {0, 0, tonumber(others[i + 1]), others[i]}
    else
      local boost, seq, at = unpacked('>I8I6', others[i])
      found[#found + 1] = {tonumber(others[i + 1]), boost - BOOSTS, seq, sub(others[i], at)}
    end
  end
  return found
end

function line.before(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  elseif a[2] ~= b[2] then
    return a[2] < b[2]
  end
  return a[3] < b[3]
end

-- How many rows of a queue are claimable, whoever may claim them.
function line.claimable(queue)
  local size = line.size(P .. 'q:' .. queue) + line.size(P .. 's:' .. queue)
  for _, task in ipairs(call('SMEMBERS', P .. 'T:' .. queue)) do
    size = size + line.size(line.passed(queue, task))
  end
  return size
end

-- How many rows of a queue are READY, LATER or PARKED.
function line.unclaimed(queue)
  return line.claimable(queue) + call('ZCARD', P .. 'later:' .. queue) + (tonumber(call('HGET', P .. 'parked', queue) or 0))
end
