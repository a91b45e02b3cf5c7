-- ARGV: now, limit. Answers with the number of removed invocations, blobs and runners, and whether there is more.
local limit, removed = tonumber(ARGV[2]), 0
while removed < limit do
  local block = call('ZRANGE', P .. 'blocks', 0, 0)[1]
  local rows = block and rows_of(tonumber(block)) or {}
  for _, r in ipairs(rows) do
    if removed < limit then
      remove(row.known[r.id] or row.load(r.id))
      removed = removed + 1
    end
  end
  if #rows == 0 then
    break
  end
end
if removed >= limit and call('HLEN', P .. 'call') > 0 then
  tell(0)
  return {removed, 0, 0, 1}
end
local blobs, gone = call('HLEN', P .. 'blob'), 0
for _, owner in ipairs(call('SMEMBERS', P .. 'scopes')) do
  scopes.forget(owner)
end
for _, key in ipairs(call('SMEMBERS', P .. 'rates')) do
  call('DEL', P .. 'rate:' .. key, P .. 'period:' .. key)
end
for _, block in ipairs(call('ZRANGE', P .. 'blocks', 0, -1)) do
  call('DEL', P .. 'order:' .. block)
end
for _, name in ipairs({'rates', 'blocks', 'removed', 'blob', 'refs', 'unused', 'heads', 'leases', 'reg', 'gone', 'progress', 'ties', 'purged', 'seq'}) do
  call('DEL', P .. name)
end
local found = call('HGETALL', P .. 'runners')
for i = 1, #found, 2 do
  local record = cmsgpack.unpack(found[i + 1])
  if is_over(record) then
    forget(found[i], record[GROUP])
    gone = gone + 1
  end
end
tell(0)
return {removed, blobs, gone, 0}
