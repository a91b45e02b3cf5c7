-- ARGV: now; then id, beat, group, supervised, lease and tasks of each. Answers with whether it lives, whether there are suspects, and what to cancel.
local answers = {}

local function has_suspects(queues)
  local known = call('HGETALL', P .. 'queues')
  for i = 1, #known, 2 do
    local fits = #queues == 0
    for _, queue in ipairs(queues) do
      fits = fits or queue == known[i]
    end
    if fits and known[i + 1] ~= 'paused' and call('EXISTS', P .. 's:' .. known[i] .. ':p', P .. 's:' .. known[i] .. ':r') > 0 then
      return 1
    end
  end
  return 0
end

local function admit_known(tasks)
  if call('EXISTS', P .. 'unknown') == 0 then
    return
  end
  for _, task in ipairs(tasks) do
    local waiting = call('SMEMBERS', P .. 'unknown:' .. task)
    local rows = {}
    for i, id in ipairs(waiting) do
      rows[i] = row.load(id)
    end
    table.sort(rows, function(a, b) return a.seq < b.seq end)
    for _, r in ipairs(rows) do
      life.unknown_no_more(r)
    end
  end
end

local function beat(id, text, group, supervised, lease, tasks, queues)
  if call('HEXISTS', P .. 'gone_runners', id) == 1 or call('HEXISTS', P .. 'dying', id) == 1 then
    return {0}
  end
  local known = call('HGET', P .. 'runners', id)
  local record = known and cmsgpack.unpack(known) or {group, supervised, lease, now, now, boot, lease_now, 0}
  if known and is_over(record) then
    record[SINCE] = lease_now
  end
  record[GROUP], record[SUPERVISED], record[LEASE], record[SEEN], record[BOOT], record[UNTIL] = group, supervised, lease, now, boot, lease_now + lease
  call('HSET', P .. 'runners', id, cmsgpack.pack(record))
  call('HSET', P .. 'beats', id, text)
  if #tasks > 0 then
    call('HSET', P .. 'tasks', id, cmsgpack.pack(tasks))
    admit_known(tasks)
  end
  return {1, has_suspects(queues), unpack(call('SMEMBERS', P .. 'orders:' .. id))}
end

for i = 2, #ARGV, 3 do
  local b = cmsgpack.unpack(ARGV[i + 2])
  answers[#answers + 1] = beat(ARGV[i], ARGV[i + 1], b[1], b[2], b[3], b[4], b[5])
end
tell(0)
return answers
