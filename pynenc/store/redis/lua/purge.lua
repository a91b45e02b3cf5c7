-- ARGV: now, border of the end, border of blobs, limit, border of runners. Answers with the numbers of invocations, blobs and runners, and whether
-- there is more.
local ended_before, blobs_before, limit, runners_before = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- Blocks that one call looks at.
local LOOKS = 40
local removed, is_more, pending = 0, false, {}

-- Whether the workflow that a row belongs to goes on.
local function is_needed(r)
  local m = row.meta(r)
  local root = m.workflow and (m.workflow == r.id and m.workflow_parent or m.workflow)
  if not root or root == r.id then
    return false
  end
  if pending[root] == nil then
    local found = readable(root)
    pending[root] = found ~= nil and found.place ~= FINAL
  end
  return pending[root]
end

-- What is kept although its time is over gets as much again, so that the next batch does not meet it.
local over = call('ZRANGEBYSCORE', P .. 'gone', '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(over) do
  local r = readable(id)
  if not r then
    remove_damaged(id)
    removed = removed + 1
  elseif is_needed(r) then
    call('ZADD', P .. 'gone', now + r.ttl, id)
  else
    remove(r)
    removed = removed + 1
  end
end

-- Goes through the blocks from where the last call stopped; those of after the border hold nothing that has ended before it.
local function purge_ended()
  local from = tonumber(call('GET', P .. 'purged') or 0)
  local blocks = call('ZRANGEBYSCORE', P .. 'blocks', from, '+inf', 'LIMIT', 0, LOOKS + 1)
  for i, block in ipairs(blocks) do
    if i > LOOKS then
      call('SET', P .. 'purged', block)
      return true
    end
    for _, r in ipairs(rows_of(tonumber(block))) do
      if removed >= limit then
        call('SET', P .. 'purged', block)
        return true
      end
      if r.place == FINAL and r.ended < ended_before and not is_needed(r) then
        remove(r)
        removed = removed + 1
      end
    end
    row.known = {}
  end
  call('DEL', P .. 'purged')
  return false
end

if ended_before > 0 and removed < limit then
  is_more = purge_ended()
end
local old = call('ZRANGEBYSCORE', P .. 'unused', '-inf', blobs_before, 'LIMIT', 0, limit)
for _, key in ipairs(old) do
  call('HDEL', P .. 'blob', key)
  call('ZREM', P .. 'unused', key)
end
local gone, found = 0, call('HGETALL', P .. 'runners')
for i = 1, #found, 2 do
  local record = cmsgpack.unpack(found[i + 1])
  if record[SEEN] < runners_before and is_over(record) and call('EXISTS', P .. 'own:' .. found[i]) == 0 then
    forget(found[i], record[GROUP])
    gone = gone + 1
  end
end
local refused = call('HGETALL', P .. 'gone_runners')
for i = 1, #refused, 2 do
  if tonumber(refused[i + 1]) < runners_before then
    call('HDEL', P .. 'gone_runners', refused[i])
  end
end
for _, key in ipairs(call('SMEMBERS', P .. 'rates')) do
  local last = tonumber(call('LINDEX', P .. 'rate:' .. key, -1) or 0)
  if last + tonumber(call('GET', P .. 'period:' .. key) or 0) <= now and call('HEXISTS', P .. 'heads', key) == 0 then
    call('DEL', P .. 'rate:' .. key, P .. 'period:' .. key)
    call('SREM', P .. 'rates', key)
  end
end
tell(0)
return {removed, #old, gone, (is_more or #over >= limit or removed >= limit or #old >= limit) and 1 or 0}
