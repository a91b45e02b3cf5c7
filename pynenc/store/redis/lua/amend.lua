-- ARGV: now, kind, reason, priority, value, attempt; then the ids. Answers with whether it was accepted and the status (-1: no such) of each.
local kind, reason, priority, value, attempt = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local change = {}

function change.cancel(r)
  if r.place == FINAL then
    return false
  end
  if r.place == CLAIMED then
    if r.cancel == 0 then
      r.cancel, r.reason = 1, reason
      row.save(r)
    end
    call('SADD', P .. 'orders:' .. r.runner, r.id)
    orders = true
  else
    life.finish(r, CANCELLED, reason, '', 0)
  end
  return true
end

-- What waits for its rate waits on: nobody may exceed that.
function change.requeue(r)
  if r.place == FINAL then
    life.reopen(r, reason)
  elseif r.place == LATER and r.rated == 0 and r.due > now then
    life.leave(r)
    r.due = 0
    life.admit(r, r.status)
  else
    return false
  end
  return true
end

function change.reprioritise(r)
  if r.place == FINAL then
    return false
  end
  local rank = priority
  for _, waiter in ipairs(call('SMEMBERS', P .. 'waiters:' .. r.id)) do
    local w = row.load(waiter)
    rank = w and math.max(rank, w.rank) or rank
  end
  r.priority = priority
  life.reorder(r, rank, r.boost)
  row.save(r)
  life.lift(call('SMEMBERS', P .. 'awaits:' .. r.id), rank, nil)
  return true
end

function change.resume(r)
  if r.place ~= WAITING or (attempt ~= 0 and attempt ~= r.attempt) then
    return false
  end
  call('HSET', P .. 'val:' .. r.id, 'resume:' .. r.attempt, value)
  scopes.note(r.id)
  life.rouse(r, reason ~= '' and reason or 'resumed')
  return true
end

function change.signal(r)
  if r.place == FINAL then
    return false
  end
  call('HSET', P .. 'val:' .. r.id, scopes.signal(r.signalled), value)
  scopes.note(r.id)
  r.signalled = r.signalled + 1
  if r.place == WAITING and r.seen >= 0 then
    life.rouse(r, reason ~= '' and reason or 'signalled')
  else
    row.save(r)
  end
  return true
end

local answers = {}
for i = 7, #ARGV do
  local r = row.load(ARGV[i])
  answers[#answers + 1] = r and change[kind](r) and 1 or 0
  answers[#answers + 1] = r and r.status or -1
end
react()
tell(0)
return answers
