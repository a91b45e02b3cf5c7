-- Blobs: ``blob`` has the data, ``refs`` the number of rows that refer to each, ``unused`` those of none by the time since when.
local blob = {}

function blob.put(key, data)
  if call('HSETNX', P .. 'blob', key, data) == 1 or call('ZSCORE', P .. 'unused', key) then
    call('ZADD', P .. 'unused', now, key)
  end
end

function blob.refer(key)
  if call('HINCRBY', P .. 'refs', key, 1) == 1 then
    call('ZREM', P .. 'unused', key)
  end
end

function blob.drop(key)
  if call('HINCRBY', P .. 'refs', key, -1) == 0 then
    call('HDEL', P .. 'refs', key)
    call('ZADD', P .. 'unused', now, key)
  end
end
