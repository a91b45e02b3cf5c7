-- ARGV: now, limit. Answers with the number of removed invocations, blobs and runners, and whether there is more.
local limit, removed, at = tonumber(ARGV[2]), 0, 0
while removed < limit do
  local block = call('ZRANGE', P .. 'blocks', at, at)[1]
  if not block then
    break
  end
  local rows = rows_of(tonumber(block))
  for _, r in ipairs(rows) do
    if removed < limit then
      if r.is_damaged then
        remove_damaged(r.id)
      else
        remove(row.known[r.id] or row.load(r.id))
      end
      removed = removed + 1
    end
  end
  if #rows == 0 then
    at = at + 1
  end
end
if removed >= limit and call('HLEN', P .. 'call') > 0 then
  tell(0)
  return {removed, 0, 0, 1}
end
for _, name in ipairs({'call', 'row'}) do
  for _, id in ipairs(call('HKEYS', P .. name)) do
    remove_damaged(id)
    removed = removed + 1
  end
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
-- What is still counted could not be read, so nobody knows where it waited.
if call('EXISTS', P .. 'tally') == 1 then
  call('DEL', P .. 'tally', P .. 'parked')
  for _, queue in ipairs(call('HKEYS', P .. 'queues')) do
    local line = P .. 'q:' .. queue
    call('DEL', line .. ':p', line .. ':r', line .. ':a', P .. 'later:' .. queue, P .. 'asleep:' .. queue)
  end
end
return {removed, blobs, gone, 0}
