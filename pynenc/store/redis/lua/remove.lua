-- A row leaves its block. A block that is full, and of which nothing is left, goes; the newest still grows.
local function leave_block(seq)
  local block = math.floor((seq - 1) / BLOCK)
  if call('HINCRBY', P .. 'removed', block, 1) == BLOCK then
    call('DEL', P .. 'order:' .. block)
    call('HDEL', P .. 'removed', block)
    call('ZREM', P .. 'blocks', block)
  end
end

-- Forgets what is kept under an id.
local function drop(id)
  call('HDEL', P .. 'call', id)
  call('HDEL', P .. 'row', id)
  call('HDEL', P .. 'progress', id)
  call('DEL', P .. 'hist:' .. id)
  scopes.forget(id)
  row.known[id] = nil
end

-- The end of all that was kept for a row.
local function remove(r)
  local m = row.meta(r)
  life.leave(r)
  if r.why ~= 0 then
    r.why = 0
    call('HINCRBY', P .. 'parked', r.queue, -1)
  end
  life.unregister(r)
  if has(r, CACHED) then
    call('ZREM', P .. 'cache:' .. m.cache_key, r.id)
  end
  r.place = FINAL
  life.let_go(r)
  for _, waiter in ipairs(edges.end_of(r.id, true)) do
    if call('EXISTS', P .. 'awaits:' .. waiter) == 0 then
      call('SREM', P .. 'sleepers', waiter)
    end
  end
  for _, key in ipairs(m.blobs) do
    blob.drop(key)
  end
  count(r.status, r.queue, r.task, -1)
  ended[#ended + 1] = {r.id, ''}
  drop(r.id)
  leave_block(r.seq)
end

-- The row of an id; nothing when it cannot be read.
local function readable(id)
  local is_read, r = pcall(function()
    local r = row.load(id)
    local is_sound = r and type(row.meta(r).blobs) == 'table' and type(r.place) == 'number' and type(r.status) == 'number' and type(r.runner) == 'string'
    return is_sound and r or nil
  end)
  return is_read and r or nil
end

-- The end of what can be found of a row that cannot be read.
local function remove_damaged(id)
  tell_damage('the row of ' .. id .. ', which is removed')
  local text = call('HGET', P .. 'call', id) or call('HGET', P .. 'row', id)
  local seq = text and #text >= 8 and unpacked('>I8', text) or 0
  local block = math.floor((seq - 1) / BLOCK)
  if call('LINDEX', P .. 'order:' .. block, seq - 1 - block * BLOCK) == id then
    leave_block(seq)
  end
  drop(id)
  call('ZREM', P .. 'gone', id)
end

-- The rows of a block that are still there, in the order of submission.
local function rows_of(block)
  local found, ids = {}, call('LRANGE', P .. 'order:' .. block, 0, -1)
  local states, definitions = fetch(P .. 'row', ids), nil
  for i, id in ipairs(ids) do
    local text = states[i] or call('HGET', P .. 'call', id)
    -- An id that was removed and used again stands in two places.
    if text and #text >= 8 and unpacked('>I8', text) == block * BLOCK + i then
      found[#found + 1] = readable(id) or {id = id, is_damaged = true}
    end
  end
  return found
end
