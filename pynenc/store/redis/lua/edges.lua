-- Wait edges: awaits:<waiter> and waiters:<awaited>; ``knots`` names all that have one of them, ``sleepers`` the
-- suspended waiters.
local edges = {}

function edges.tidy(id)
  if call('EXISTS', P .. 'awaits:' .. id, P .. 'waiters:' .. id) == 0 then
    call('SREM', P .. 'knots', id)
  end
end

function edges.drop(waiter, awaited)
  call('SREM', P .. 'awaits:' .. waiter, awaited)
  call('SREM', P .. 'waiters:' .. awaited, waiter)
  edges.tidy(waiter)
  edges.tidy(awaited)
end

-- Records that one waits for others.
function edges.add(waiter, pending)
  for _, id in ipairs(pending) do
    call('SADD', P .. 'waiters:' .. id, waiter)
  end
  each('SADD', P .. 'awaits:' .. waiter, pending)
  if #pending > 0 then
    call('SADD', P .. 'knots', waiter)
    each('SADD', P .. 'knots', pending)
  end
end

-- The attempt of a waiter is over: it waits for nothing; and nobody waits for what is final. Answers with the suspended ones that waited for that.
function edges.end_of(id, is_final)
  local asleep = {}
  if call('SISMEMBER', P .. 'knots', id) == 0 then
    return asleep
  end
  for _, awaited in ipairs(call('SMEMBERS', P .. 'awaits:' .. id)) do
    edges.drop(id, awaited)
  end
  if is_final then
    for _, waiter in ipairs(call('SMEMBERS', P .. 'waiters:' .. id)) do
      edges.drop(waiter, id)
      if call('SISMEMBER', P .. 'sleepers', waiter) == 1 then
        asleep[#asleep + 1] = waiter
      end
    end
  end
  return asleep
end
