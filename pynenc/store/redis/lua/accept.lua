-- Accepting one invocation after the other.

-- The row of a submission, which nobody knows yet; ``text`` is its call without the beginning.
local function fresh(id, text)
  local known = row.known[id]
  local r = row.of(id, pack('>I8I8', 0, now) .. text, nil)
  row.known[id] = known
  return r
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

-- Inserts a fresh row, or finds who answers for it: that one, and whether it was there.
local function accept(r)
  local found = holder(r)
  if found then
    return found, true
  end
  local seq, m = call('INCR', P .. 'seq'), row.meta(r)
  local start = pack('>I8', seq)
  r.seq, r.call, r.head = seq, start .. sub(r.call, 9), start .. sub(r.head, 9)
  row.known[r.id] = r
  call('HSET', P .. 'call', r.id, r.call)
  local block = math.floor((seq - 1) / BLOCK)
  if call('RPUSH', P .. 'order:' .. block, r.id) == 1 then
    call('ZADD', P .. 'blocks', block, block)
  end
  call('HSETNX', P .. 'queues', r.queue, 'active')
  if m.registration_key then
    call('HSET', P .. 'reg', m.registration_key, r.id)
  end
  if m.expires > 0 then
    call('ZADD', P .. 'expiring', m.expires, r.id)
  end
  for _, key in ipairs(m.blobs) do
    blob.refer(key)
  end
  count(REGISTERED, r.queue, r.task, 1)
  r.place = WAITING
  life.admit(r, REGISTERED)
  return r, false
end
