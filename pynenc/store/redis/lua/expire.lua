-- ARGV: now, limit. Answers with how many have ended: the longest overdue of what was never claimed.
local count = 0
for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local r = row.load(id)
  if r and r.attempt == 0 and r.round == 0 and r.place ~= FINAL then
    life.finish(r, CANCELLED, 'expired', '', 0)
    count = count + 1
  else -- claimed or removed by a version that does not know this index
    call('ZREM', P .. 'expiring', id)
  end
end
react()
tell(0)
return count
