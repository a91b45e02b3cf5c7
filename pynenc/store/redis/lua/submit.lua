-- ARGV: now, mode, the most that a queue may hold (0: no limit), groups, the number of blobs; then key and data of each blob; then id, and call without its
-- beginning, of each invocation. Groups are queue, task, rank and number, in the order of the invocations. The mode is 1 when all are plain, 0 when not, and 2 for a
-- single plain one without rank, whose queue and name in the tally follow; it needs no groups.
-- Answers with nothing when all were accepted as they are, READY; else with id, status, whether it was there, and digest for each; or why not.

-- The usual ways are written out, since making a function takes longer than a command. Whether somebody is idle or a queue is draining:
local is_special = call('EXISTS', P .. 'idle', P .. 'drains') > 0
local last = #ARGV
if ARGV[2] == '2' then
  local id, queue = ARGV[6], ARGV[8]
  last = 7
  if not is_special and call('HEXISTS', P .. 'call', id) == 0 then
    local seq = call('INCR', P .. 'seq')
    local at = (seq - 1) % BLOCK
    call('HSET', P .. 'call', id, pack('>I8I8', seq, now) .. ARGV[7])
    call('RPUSH', P .. 'order:' .. (seq - 1 - at) / BLOCK, id)
    if at == 0 then
      call('ZADD', P .. 'blocks', (seq - 1) / BLOCK, (seq - 1) / BLOCK)
    end
    call('ZADD', P .. 'q:' .. queue .. ':p', seq, id)
    if call('HINCRBY', P .. 'tally', ARGV[9], 1) == 1 then
      call('HSETNX', P .. 'queues', queue, 'active') -- the first of its kind, perhaps of its queue
    end
    return nil
  end
end

local is_plain, limit, blobs = ARGV[2] ~= '0', tonumber(ARGV[3]), tonumber(ARGV[5])
local groups = ARGV[2] == '2' and {{ARGV[8], sub(ARGV[9], 4 + #ARGV[8]), 0, 1}} or cmsgpack.unpack(ARGV[4])
local first = 6 + 2 * blobs
local is_done = is_plain
if is_plain and is_special then
  for _, group in ipairs(groups) do
    is_done = is_done and call('SISMEMBER', P .. 'drains', group[1]) == 0
  end
end
for from = first, is_done and last or 0, 2 * MOST do
  local ids = {}
  for i = from, math.min(from + 2 * MOST, last) - 1, 2 do
    ids[#ids + 1] = ARGV[i]
  end
  local there = call('HMGET', P .. 'call', unpack(ids))
  for i = 1, #ids do
    is_done = is_done and not there[i]
  end
end
if is_done then
  local n = (last - first + 1) / 2
  local seq = call('INCRBY', P .. 'seq', n) - n + 1
  local at, of_group, group = 1, 0, 0
  while at <= n do
    -- One part: as much as one command takes, of one group and one block.
    if of_group == 0 then
      group = group + 1
      of_group = groups[group][4]
    end
    local queue, task, rank, n_all = groups[group][1], groups[group][2], groups[group][3], groups[group][4]
    local number = seq + at - 1
    local block = math.floor((number - 1) / BLOCK)
    local size = math.min(of_group, BLOCK - (number - 1) % BLOCK)
    local ids, values, plain, ranked = {}, {}, {}, {}
    for i = 0, size - 1 do
      local id = ARGV[first + 2 * (at + i - 1)]
      ids[i + 1], values[2 * i + 1], values[2 * i + 2] = id, id, pack('>I8I8', number + i, now) .. ARGV[first + 2 * (at + i) - 1]
      plain[2 * i + 1], plain[2 * i + 2] = number + i, id
      if rank ~= 0 then
        ranked[2 * i + 1], ranked[2 * i + 2] = -rank, pack('>I8I6', BOOSTS, number + i) .. id
      end
    end
    call('HSET', P .. 'call', unpack(values))
    call('RPUSH', P .. 'order:' .. block, unpack(ids))
    if (number - 1) % BLOCK == 0 then
      call('ZADD', P .. 'blocks', block, block)
    end
    if rank == 0 then
      call('ZADD', P .. 'q:' .. queue .. ':p', unpack(plain))
    else
      call('ZADD', P .. 'q:' .. queue .. ':a', unpack(plain))
      call('ZADD', P .. 'q:' .. queue .. ':r', unpack(ranked))
    end
    if of_group == n_all and call('HINCRBY', P .. 'tally', pack('>BI2c0', REGISTERED, #queue, queue) .. task, n_all) == n_all then
      call('HSETNX', P .. 'queues', queue, 'active')
    end
    at, of_group = at + size, of_group - size
  end
  if not is_special then
    return nil
  end
end
--{base}
if is_done then
  for _, group in ipairs(groups) do
    stir(group[1], group[4])
  end
  tell(0)
  return nil
end
--{any}
local new, batch_ids, batch_keys, sent = {}, {}, {}, {}
for i = first, last, 2 do
  new[#new + 1] = fresh(ARGV[i], ARGV[i + 1])
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

local may_refuse = limit > 0 or call('EXISTS', P .. 'drains') == 1
local refused = missing_blobs() or (may_refuse and refusal()) or nil
if refused then
  return refused
end
for i = 1, blobs do
  blob.put(ARGV[4 + 2 * i], ARGV[5 + 2 * i])
end
local answers = {}
for _, r in ipairs(new) do
  local found, was_there = accept(r)
  answers[#answers + 1] = {found.id, found.status, was_there and found.id == r.id and 1 or 0, row.meta(found).digest}
end
tell(0)
return answers
