-- Wait edges: awaits:<waiter> and waiters:<awaited>; ``knots`` names all that have one of them.
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

-- The attempt of a waiter is over: it waits for nothing; and nobody waits for what is final.
function edges.end_of(id, is_final)
  if call('SISMEMBER', P .. 'knots', id) == 0 then
    return
  end
  for _, awaited in ipairs(call('SMEMBERS', P .. 'awaits:' .. id)) do
    edges.drop(id, awaited)
  end
  if is_final then
    for _, waiter in ipairs(call('SMEMBERS', P .. 'waiters:' .. id)) do
      edges.drop(waiter, id)
    end
  end
end
