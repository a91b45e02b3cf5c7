-- What is remembered: val:<scope>. A scope belongs to what stands before its first slash, its owner: ``scopes`` has the owners, scopes:<owner> the scopes
-- with a slash.
local scopes = {}

function scopes.note(scope)
  local owner = string.match(scope, '^[^/]*')
  call('SADD', P .. 'scopes', owner)
  if owner ~= scope then
    call('SADD', P .. 'scopes:' .. owner, scope)
  end
end

-- Forgets a scope that has a slash.
function scopes.drop(owner, scope)
  if call('SREM', P .. 'scopes:' .. owner, scope) == 1 then
    call('DEL', P .. 'val:' .. scope)
  end
end

-- Forgets all that belongs to an owner.
function scopes.forget(owner)
  if call('SREM', P .. 'scopes', owner) == 0 then
    return
  end
  for _, scope in ipairs(call('SMEMBERS', P .. 'scopes:' .. owner)) do
    call('DEL', P .. 'val:' .. scope)
  end
  call('DEL', P .. 'val:' .. owner, P .. 'scopes:' .. owner)
end

-- The key under which a signal is remembered; keys sort as numbers do.
function scopes.signal(number)
  return string.format('signal:%09d', math.max(0, number))
end

-- Forgets the values that an invocation was resumed with, and the signals before a number.
function scopes.forget_used(owner, number)
  for _, key in ipairs(call('HKEYS', P .. 'val:' .. owner)) do
    if sub(key, 1, 7) == 'resume:' or (sub(key, 1, 7) == 'signal:' and tonumber(sub(key, 8)) < number) then
      call('HDEL', P .. 'val:' .. owner, key)
    end
  end
end
