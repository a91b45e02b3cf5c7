-- Refuses a runner from now on; its group is forgotten with its last runner.
local function forget(name, group)
  for _, key in ipairs({'runners', 'beats', 'tasks', 'dying'}) do
    call('HDEL', P .. key, name)
  end
  call('DEL', P .. 'orders:' .. name)
  call('HSET', P .. 'gone_runners', name, string.format('%.0f', now))
  for _, key in ipairs({'runners', 'dying'}) do
    local others = call('HVALS', P .. key)
    for _, other in ipairs(others) do
      if cmsgpack.unpack(other)[GROUP] == group then
        return
      end
    end
  end
  call('HDEL', P .. 'dead', group)
end
