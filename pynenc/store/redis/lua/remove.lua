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
  call('HDEL', P .. 'call', r.id)
  call('HDEL', P .. 'row', r.id)
  call('HDEL', P .. 'progress', r.id)
  call('DEL', P .. 'hist:' .. r.id)
  scopes.forget(r.id)
  row.known[r.id] = nil
  local block = math.floor((r.seq - 1) / BLOCK)
  -- A block that is full, and of which nothing is left. The newest still grows.
  if call('HINCRBY', P .. 'removed', block, 1) == BLOCK then
    call('DEL', P .. 'order:' .. block)
    call('HDEL', P .. 'removed', block)
    call('ZREM', P .. 'blocks', block)
  end
end

-- The rows of a block that are still there, in the order of submission.
local function rows_of(block)
  local found, ids = {}, call('LRANGE', P .. 'order:' .. block, 0, -1)
  local states, definitions = fetch(P .. 'row', ids), nil
  for i, id in ipairs(ids) do
    local text = states[i] or call('HGET', P .. 'call', id)
    -- An id that was removed and used again stands in two places.
    if text and unpacked('>I8', text) == block * BLOCK + i then
      found[#found + 1] = row.load(id)
    end
  end
  return found
end
