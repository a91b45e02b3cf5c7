-- ARGV: now, sweeper, limit, error. Answers with id, runner and status of each.
local by, limit, failure, answers = ARGV[2], tonumber(ARGV[3]), ARGV[4], {}
local KILLED, OVER = 'its process died', 'its lease is over'

local sweeper = call('HGET', P .. 'runners', by)
if not sweeper then
  return answers
end
sweeper = cmsgpack.unpack(sweeper)
-- After an outage every lease looks dead: only who has held its own for one full term may take those of others.
local may_judge = not is_over(sweeper) and lease_now - sweeper[SINCE] >= sweeper[LEASE]
local found = call('HGETALL', P .. 'runners')
for i = 1, #found, 2 do
  local record = cmsgpack.unpack(found[i + 1])
  local is_dead = call('HEXISTS', P .. 'dead', record[GROUP]) == 1
  if found[i] ~= by and (is_dead or (may_judge and is_over(record))) then
    record[DEATH] = is_dead and KILLED or OVER
    call('HSET', P .. 'dying', found[i], cmsgpack.pack(record))
    call('HDEL', P .. 'runners', found[i])
    call('HDEL', P .. 'beats', found[i])
    call('HDEL', P .. 'tasks', found[i])
  end
end

-- One row of a runner that is gone: uncounted, unless it ran alone in a process that certainly died. Whoever waited ran nothing then.
local function take_back(r, name, record, waited)
  if record[DEATH] == KILLED and record[SUPERVISED] == 0 and not waited then
    r.crashes = r.crashes + r.alone
    local most = row.meta(r).max_crashes
    if r.alone == 1 and r.crashes >= most then
      life.finish(r, FAILED, 'crash ' .. r.crashes .. ' of ' .. math.max(1, most) .. ': its process died', failure, 0)
      return FAILED
    end
    r.alone = 1
  end
  return life.lose_owner(r, 'runner ' .. name .. ' is gone: ' .. record[DEATH])
end

local dying, left = call('HGETALL', P .. 'dying'), limit
for i = 1, #dying, 2 do
  local name, record = dying[i], cmsgpack.unpack(dying[i + 1])
  if left > 0 then
    local rows, waited = row.sorted(call('SRANDMEMBER', P .. 'own:' .. name, left)), {}
    for _, r in ipairs(rows) do
      waited[r.id] = call('EXISTS', P .. 'awaits:' .. r.id) == 1
    end
    for _, r in ipairs(rows) do
      answers[#answers + 1], answers[#answers + 2], answers[#answers + 3] = r.id, name, take_back(r, name, record, waited[r.id])
      left = left - 1
    end
  end
  if call('EXISTS', P .. 'own:' .. name) == 0 then
    forget(name, record[GROUP])
  end
end
react()
tell(0)
return answers
