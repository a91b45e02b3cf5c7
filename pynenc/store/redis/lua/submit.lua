-- ARGV: now, whether all are plain, the most that a queue may hold (0: no limit), groups, the number of blobs; then key and data of each blob; then
-- id, and call without its beginning, of each invocation. Groups are queue, task, rank and number, in the order of the invocations.
-- Answers with nothing when all were accepted as they are, READY; else with id, status, whether it was there, and digest for each; or why not.
local is_plain, limit, groups, blobs = ARGV[2] == '1', tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4]), tonumber(ARGV[5])
local first = 6 + 2 * blobs

-- The next numbers of submission; what is inserted must be pushed in this order.
local function reserve(n)
  return call('INCRBY', P .. 'seq', n) - n + 1
end

-- Writes calls and the order of submission.
local function insert(ids, definitions, seq)
  local values = {}
  for i = 1, #ids do
    values[2 * i - 1], values[2 * i] = ids[i], pack('>I8I8', seq + i - 1, now) .. definitions[i]
  end
  each('HSET', P .. 'call', values, 2)
  local from = 1
  while from <= #ids do
    local at = seq + from - 2
    local block = math.floor(at / BLOCK)
    local to = math.min(#ids, from + BLOCK - at % BLOCK - 1)
    call('RPUSH', P .. 'order:' .. block, unpack(ids, from, to))
    call('HINCRBY', P .. 'live', block, to - from + 1)
    call('ZADD', P .. 'blocks', block, block)
    from = to + 1
  end
end

local function usual()
  local ids, definitions = {}, {}
  for i = first, #ARGV, 2 do
    ids[#ids + 1], definitions[#definitions + 1] = ARGV[i], ARGV[i + 1]
  end
  local there = fetch(P .. 'call', ids)
  for i = 1, #ids do
    if there[i] then
      return false
    end
  end
  local states = {}
  for _, group in ipairs(groups) do
    local queue = group[1]
    states[queue] = states[queue] or call('HGET', P .. 'queues', queue) or 'new'
    if states[queue] == 'draining' then
      return false
    end
  end
  local seq = reserve(#ids)
  insert(ids, definitions, seq)
  local at = 0
  for _, group in ipairs(groups) do
    local queue, task, rank, n = group[1], group[2], group[3], group[4]
    local name, plain, ranked, aged = P .. 'q:' .. queue, {}, {}, {}
    if states[queue] == 'new' then
      call('HSETNX', P .. 'queues', queue, 'active')
    end
    for i = at + 1, at + n do
      plain[#plain + 1], plain[#plain + 2] = seq + i - 1, ids[i]
      if rank ~= 0 then
        ranked[#ranked + 1], ranked[#ranked + 2] = -rank, pack('>I8I6', BOOSTS, seq + i - 1) .. ids[i]
      end
    end
    if rank == 0 then
      each('ZADD', name .. ':p', plain, 2)
    else
      each('ZADD', name .. ':a', plain, 2)
      each('ZADD', name .. ':r', ranked, 2)
    end
    count(REGISTERED, queue, task, n)
    stir(queue, n)
    at = at + n
  end
  return true
end

if is_plain and usual() then
  tell(0)
  return nil
end
--{any}
local new, batch_ids, batch_keys, sent = {}, {}, {}, {}
for i = first, #ARGV, 2 do
  local r = row.of(ARGV[i], pack('>I8I8', 0, now) .. ARGV[i + 1], nil)
  row.known[ARGV[i]] = nil
  new[#new + 1] = r
end

-- The row that answers for a submission.
local function holder(r)
  local found = row.load(r.id)
  local m = row.meta(r)
  if not found and m.registration_key then
    local id = call('HGET', P .. 'reg', m.registration_key)
    found = id and row.load(id)
  end
  if not found and m.cache_key then
    local id = call('ZREVRANGE', P .. 'cache:' .. m.cache_key, 0, 0)[1]
    found = id and row.load(id)
  end
  return found
end

local function missing_blobs()
  local missing, named = {'blobs'}, {}
  for i = 1, blobs do
    sent[ARGV[4 + 2 * i]] = true
  end
  for _, r in ipairs(new) do
    for _, key in ipairs(row.meta(r).blobs) do
      if not sent[key] and not named[key] and call('HEXISTS', P .. 'blob', key) == 0 then
        named[key] = true
        missing[#missing + 1] = key
      end
    end
  end
  return #missing > 1 and missing or nil
end

-- Why the batch cannot be accepted as a whole, or nil.
local function refusal()
  local lengths, states = {}, {}
  for _, r in ipairs(new) do
    local m = row.meta(r)
    local is_answered = batch_ids[r.id] or (m.registration_key and batch_keys[m.registration_key]) or holder(r)
    if not is_answered then
      batch_ids[r.id] = true
      if m.registration_key then
        batch_keys[m.registration_key] = true
      end
      states[r.queue] = states[r.queue] or call('HGET', P .. 'queues', r.queue) or 'new'
      if states[r.queue] == 'draining' then
        local parent = m.parent and row.load(m.parent)
        if not parent or parent.place ~= CLAIMED then
          return {'draining', r.queue, r.task}
        end
      end
      if limit > 0 then
        lengths[r.queue] = (lengths[r.queue] or line.unclaimed(r.queue)) + 1
        if lengths[r.queue] > limit then
          return {'full', r.queue, r.task}
        end
      end
    end
  end
end

local refused = missing_blobs() or refusal()
if refused then
  return refused
end
for i = 1, blobs do
  blob.put(ARGV[4 + 2 * i], ARGV[5 + 2 * i])
end
local answers = {}
for i, fresh in ipairs(new) do
  local found = holder(fresh)
  if found then
    local digest = row.meta(found).digest
    answers[#answers + 1] = {found.id, found.status, found.id == fresh.id and 1 or 0, digest}
  else
    local seq = reserve(1)
    insert({fresh.id}, {ARGV[first + 2 * i - 1]}, seq)
    local r = row.of(fresh.id, pack('>I8I8', seq, now) .. ARGV[first + 2 * i - 1], nil)
    local m = row.meta(r)
    call('HSETNX', P .. 'queues', r.queue, 'active')
    if m.registration_key then
      call('HSET', P .. 'reg', m.registration_key, r.id)
    end
    for _, key in ipairs(m.blobs) do
      blob.refer(key)
    end
    count(REGISTERED, r.queue, r.task, 1)
    r.place = WAITING
    life.admit(r, REGISTERED)
    answers[#answers + 1] = {r.id, r.status, 0, m.digest}
  end
end
tell(0)
return answers
